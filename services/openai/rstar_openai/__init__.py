"""The OpenAI-compatible endpoint: a question over HTTP in, a searched answer out."""

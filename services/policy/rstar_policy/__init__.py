"""The policy service: proposes the next steps of a partial trajectory.

The package refuses to search, to run code and to score: it turns a prompt into n candidates.
"""

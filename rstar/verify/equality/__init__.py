"""Equality of answers: a normaliser, strict parsers and the comparison that ``verify.math`` uses."""

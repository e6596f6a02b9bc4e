"""Texts as tuples of token ids, and where they begin alike. Loads no library: planning uses it too."""

from __future__ import annotations

Tokens = tuple[int, ...]


def shared_tokens(one: Tokens, other: Tokens) -> int:
    """Return the number of tokens with which both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

"""Every random choice flows from a round's seed through this one function.

It refuses to be a random generator: it only names streams, so that work done in another order, in another
process or for the second time draws the same numbers.
"""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *parts: str | int) -> int:
    """Return the 63-bit seed of the stream ``parts`` names under ``seed`` (BLAKE2b of both).

    >>> derive(0, "tree", 1) == derive(0, "tree", 1) != derive(0, "tree", 2)
    True
    """
    text = "\x1f".join([str(seed), *map(repr, parts)])
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1

"""Seeds of named random streams, derived from the round's seed.

Every random choice uses such a stream, so that work in another order, in another process or done again draws the
same numbers.
"""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *parts: str | int) -> int:
    """Return the 63-bit seed of the stream named ``parts`` (BLAKE2b of ``seed`` and the name).

    >>> derive(0, "tree", 1) == derive(0, "tree", 1) != derive(0, "tree", 2)
    True
    """
    text = "\x1f".join([str(seed), *map(repr, parts)])
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1

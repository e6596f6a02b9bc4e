"""In which order examples are trained on: a pure function of lengths and seed.

The order is fixed before training starts, so a restart that skips the batches already seen goes on with exactly
the ones that are left, whatever the number of processes. Examples of like length share a batch, so that little
is padded; batches themselves are shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

BATCHES_PER_BLOCK: Final = 50
"""Lengths are sorted within so many batches: more would pad less and shuffle less."""


def training_order(
    lengths: Sequence[int], batch_size: int, epochs: float, max_tokens: int | None, seed: int
) -> list[int]:
    """Return positions in ``lengths`` (tokens per example); batch k is items [k * batch_size, (k + 1) * batch_size).

    With ``max_tokens`` examples are repeated or cut to reach it (the last one may exceed it), else ``epochs`` passes
    are made. Only the last batch may be smaller. Raises ``ValueError`` when there are no examples.
    """
    if not lengths:
        raise ValueError("there is nothing to train on")
    rng = random.Random(seed)
    wanted = round(epochs * len(lengths)) if max_tokens is None else None
    drawn: list[int] = []
    tokens = 0
    while True:
        for position in rng.sample(range(len(lengths)), len(lengths)):
            if drawn and (len(drawn) == wanted if max_tokens is None else tokens >= max_tokens):
                return _by_length(drawn, lengths, batch_size, rng)
            drawn.append(position)
            tokens += lengths[position]


def _by_length(drawn: list[int], lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    ordered: list[int] = []
    block = batch_size * BATCHES_PER_BLOCK
    for start in range(0, len(drawn), block):
        part = sorted(drawn[start : start + block], key=lambda position: (lengths[position], position))
        whole = len(part) // batch_size * batch_size
        # The remainder, which only the last block has, must stay last; it takes lengths from all over the block.
        rest = set(rng.sample(range(len(part)), len(part) - whole))
        kept = [position for i, position in enumerate(part) if i not in rest]
        batches = [kept[i : i + batch_size] for i in range(0, whole, batch_size)]
        rng.shuffle(batches)
        ordered += [position for batch in batches for position in batch]
        ordered += [position for i, position in enumerate(part) if i in rest]
    return ordered

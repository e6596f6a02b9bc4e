"""The order of the training examples: a pure function of their lengths and a seed.

The order is fixed before training starts. So a restart, which skips the batches already seen, trains on exactly the
others, whatever the number of processes. Examples of similar length share a batch, so that there is little padding;
the batches are shuffled.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import Final

BATCHES_PER_BLOCK: Final = 50
"""Lengths are sorted within blocks of so many batches: larger blocks would pad less and shuffle less."""


def training_order(
    lengths: Sequence[int], batch_size: int, epochs: float, max_tokens: int | None, seed: int
) -> array[int]:
    """Return positions in ``lengths`` (tokens per example); batch k is items [k * batch_size, (k + 1) * batch_size).

    With ``max_tokens``, examples are drawn until their tokens reach it (the last example may exceed it); without,
    ``epochs`` passes are made. Only the last batch may be smaller. Raises ``ValueError`` when there are no examples.
    """
    if not lengths:
        raise ValueError("there is nothing to train on")
    rng = random.Random(seed)
    target = round(epochs * len(lengths)) if max_tokens is None else None
    drawn = array("q")
    tokens = 0
    while True:
        for position in permutation(len(lengths), rng):
            if drawn and (len(drawn) == target if max_tokens is None else tokens >= max_tokens):
                return _by_length(drawn, lengths, batch_size, rng)
            drawn.append(position)
            tokens += lengths[position]


def permutation(count: int, rng: random.Random) -> array[int]:
    """Return ``rng.sample(range(count), count)`` in 16 bytes per item: a list of numbers has 40, and millions of pairs are many."""
    pool, drawn = array("q", range(count)), array("q")
    for left in range(count, 0, -1):
        place = rng.randrange(left)
        drawn.append(pool[place])
        pool[place] = pool[left - 1]
    return drawn


def _by_length(drawn: array[int], lengths: Sequence[int], batch_size: int, rng: random.Random) -> array[int]:
    ordered = array("q")
    block = batch_size * BATCHES_PER_BLOCK
    for start in range(0, len(drawn), block):
        part = sorted(drawn[start : start + block], key=lambda position: (lengths[position], position))
        whole = len(part) // batch_size * batch_size
        # Only the last block has a remainder. It must stay last, and it is drawn from all lengths of the block.
        remainder = set(rng.sample(range(len(part)), len(part) - whole))
        kept = [position for i, position in enumerate(part) if i not in remainder]
        batches = [kept[i : i + batch_size] for i in range(0, whole, batch_size)]
        rng.shuffle(batches)
        ordered.extend(position for batch in batches for position in batch)
        ordered.extend(position for i, position in enumerate(part) if i in remainder)
    return ordered

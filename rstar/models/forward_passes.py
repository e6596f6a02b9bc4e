"""The forward passes in which new texts are run: a pure plan for the policy's prompts and the PPM's rows.

A pass costs the reading of all weights, and the same for a padding token as for any other. So texts that begin alike,
with the examples of a few-shot prompt or with one question, are run in two waves, one of them first and the others after
its cached prefix; and texts with few new tokens are not padded to those with many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from rstar.models.token_prefixes import Tokens, shared_tokens

TEXT_TOKENS: Final = 16_384
"""Tokens of the texts of one pass, cached prefixes and padding included: the limit bounds its keys and values."""

NEW_TOKENS: Final = 4_096
"""Tokens that one pass runs, padding included: the limit bounds its activations."""

_PASS_TOKENS: Final = 256
"""Tokens that another pass must save: about 40 cost as much as reading the weights on a CPU, 2,000 on a large GPU."""


def planned(
    texts: Sequence[Tokens], lengths: Sequence[int], cached: Callable[[int], int], most_rows: int | None = None
) -> Iterator[list[int]]:
    """Yield the positions of the texts of one pass each. Take the next after the last one is run: more may be cached then.

    ``texts[i]`` are the tokens of text i that may be found in the cache, ``lengths[i]`` the number of all its tokens, and
    ``cached(i)`` how many of them are in the cache now.
    """
    for wave in waves(texts, [cached(i) for i in range(len(texts))]):
        for places in passes([lengths[i] for i in wave], [cached(i) for i in wave], most_rows):
            yield [wave[i] for i in places]


def waves(texts: Sequence[Tokens], cached: Sequence[int]) -> list[list[int]]:
    """Return the positions of ``texts`` in one or two groups; the second finds more of its prefixes cached.

    The first ``cached[i]`` tokens of ``texts[i]`` are cached already.
    """
    order = sorted(range(len(texts)), key=lambda i: (texts[i], cached[i]))
    saved = [0] + [max(0, shared_tokens(texts[before], texts[i]) - cached[i]) for before, i in pairwise(order)]
    if sum(saved) < _PASS_TOKENS:
        return [list(range(len(texts)))]
    groups: tuple[list[int], list[int]] = ([], [])
    for i, tokens in zip(order, saved, strict=True):
        groups[tokens > 0].append(i)
    return list(groups)


def passes(lengths: Sequence[int], cached: Sequence[int], most_rows: int | None = None) -> Iterator[list[int]]:
    """Cut texts of so many tokens into passes of similar numbers of new tokens: the positions of at least one text each.

    The first ``cached[i]`` of the ``lengths[i]`` tokens of text i are not run.
    """
    batch: list[int] = []
    longest = total = 0
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i] - cached[i]):
        new = lengths[i] - cached[i]
        rows, longest, total = len(batch) + 1, max(longest, lengths[i]), total + new
        too_large = rows * longest > TEXT_TOKENS or rows * new > NEW_TOKENS or (most_rows and rows > most_rows)
        if batch and (too_large or rows * new - total > _PASS_TOKENS):
            yield batch
            batch, longest, total = [], lengths[i], new
        batch.append(i)
    if batch:
        yield batch

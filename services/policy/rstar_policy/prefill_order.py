"""The forward passes in which new prompts are run: a pure plan.

A pass costs the reading of all weights, and the same for a padding token as for any other. So prompts that begin alike,
with the examples of a few-shot prompt for instance, are run in two waves, one of them first and the others after its
cached prefix; and prompts with few new tokens are not padded to those with many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from rstar.models.prefix_cache import Tokens, shared_tokens

PREFILL_TOKENS: Final = 16_384
"""Prompt tokens of one pass, cached prefixes and padding included: the limit bounds its memory."""

_PASS_TOKENS: Final = 256
"""Tokens that another pass must save: about 40 cost as much as reading the weights on a CPU, 2,000 on a large GPU."""


def waves(prompts: Sequence[Tokens], cached: Sequence[int]) -> list[list[Tokens]]:
    """Return distinct ``prompts`` in one or two groups; the second finds more of its prefixes cached.

    The first ``cached[i]`` tokens of ``prompts[i]`` are cached already.
    """
    order = sorted(zip(prompts, cached, strict=True))
    saved = [0] + [max(0, shared_tokens(before, prompt) - known) for (before, _), (prompt, known) in pairwise(order)]
    if sum(saved) < _PASS_TOKENS:
        return [list(prompts)]
    groups: tuple[list[Tokens], list[Tokens]] = ([], [])
    for (prompt, _), tokens in zip(order, saved, strict=True):
        groups[tokens > 0].append(prompt)
    return list(groups)


def batches(prompts: Sequence[Tokens], cached: Sequence[int]) -> Iterator[list[Tokens]]:
    """Cut ``prompts`` into the batches of one pass each, of similar numbers of new tokens; at least one prompt each."""
    batch: list[Tokens] = []
    longest = total = 0
    for prompt, known in sorted(zip(prompts, cached, strict=True), key=lambda pair: len(pair[0]) - pair[1]):
        new = len(prompt) - known
        rows, longest, total = len(batch) + 1, max(longest, len(prompt)), total + new
        if batch and (rows * longest > PREFILL_TOKENS or rows * new - total > _PASS_TOKENS):
            yield batch
            batch, longest, total = [], len(prompt), new
        batch.append(prompt)
    if batch:
        yield batch

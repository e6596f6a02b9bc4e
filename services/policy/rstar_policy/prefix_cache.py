"""Keys and values of earlier prompts, so that the expansion of a node does not run its prefix again.

A child's prompt is its parent's plus one step; progressive widening sends a node's own prompt again; the prompts of a
few-shot style begin with the same examples. Entries are whole prompts, of which a new prompt uses the tokens that it
shares. The least recently used ones are dropped when a budget of bytes is exceeded.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor

Prompt = tuple[int, ...]


class CachedPrefix(NamedTuple):
    """The first ``length`` tokens of a prompt, per layer ``(heads, length, head width)``."""

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


NOTHING = CachedPrefix(0, (), ())


class PrefixCache:
    """At most ``budget`` bytes of keys and values. Not thread-safe: one worker owns it."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._entries: OrderedDict[Prompt, CachedPrefix] = OrderedDict()
        self._sorted: list[Prompt] = []

    def longest(self, prompt: Prompt) -> CachedPrefix:
        """Return the longest cached prefix of ``prompt`` that leaves at least one token to run."""
        # In lexicographic order, the entry that shares the most tokens stands next to the prompt.
        place = bisect_left(self._sorted, prompt)
        neighbours = self._sorted[max(0, place - 1) : place + 1]
        shared, best = max(((shared_tokens(entry, prompt), entry) for entry in neighbours), default=(0, ()))
        length = min(shared, len(prompt) - 1)
        if not length:
            return NOTHING
        self._entries.move_to_end(best)
        return _shortened(self._entries[best], length)

    def put(self, prompt: Prompt, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
        """Add ``prompt``; the tensors are copied, ``(heads, len(prompt), head width)`` per layer."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*keys, *values))
        if prompt in self._entries or size > self._budget:
            return
        copies = (tuple(tensor.clone() for tensor in tensors) for tensors in (keys, values))
        self._entries[prompt] = CachedPrefix(len(prompt), *copies)
        insort(self._sorted, prompt)
        self._bytes += size
        while self._bytes > self._budget:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        prompt, entry = self._entries.popitem(last=False)
        self._bytes -= sum(tensor.numel() * tensor.element_size() for tensor in (*entry.keys, *entry.values))
        del self._sorted[bisect_left(self._sorted, prompt)]


def shared_tokens(one: Prompt, other: Prompt) -> int:
    """Return the number of tokens with which both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shortened(entry: CachedPrefix, length: int) -> CachedPrefix:
    if length == entry.length:
        return entry
    return CachedPrefix(length, *(tuple(t[:, :length] for t in tensors) for tensors in (entry.keys, entry.values)))


def stacked(prefixes: list[CachedPrefix], layer: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return one layer's keys and values of several prefixes, ``(rows, heads, width, head width)``, left-padded with 0.

    ``like`` gives heads, head width, dtype and device.
    """
    shape = (len(prefixes), like.shape[0], width, like.shape[2])
    keys, values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
    for row, prefix in enumerate(prefixes):
        if prefix.length:
            keys[row, :, width - prefix.length :] = prefix.keys[layer]
            values[row, :, width - prefix.length :] = prefix.values[layer]
    return keys, values

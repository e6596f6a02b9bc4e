"""Keys and values of prompts that were run before, so that a tree's next expansion does not run its prefix again.

A child's prompt is its parent's and one step more; a node that is widened asks for its own prompt once more. Entries
are whole prompts, least recently used go first, under a budget of bytes. The module refuses to know models.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor

Prompt = tuple[int, ...]


class Known(NamedTuple):
    """The first ``length`` tokens of a prompt, per layer ``(heads, length, head width)``."""

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


NOTHING = Known(0, (), ())


class PrefixCache:
    """At most ``budget`` bytes of keys and values. Not thread-safe: one worker owns it."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._entries: OrderedDict[Prompt, Known] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def longest(self, prompt: Prompt) -> Known:
        """Return the longest known prefix of ``prompt`` that leaves at least one token to run."""
        for length in sorted((length for length in self._lengths if length <= len(prompt)), reverse=True):
            known = self._entries.get(prompt[:length])
            if known is not None:
                self._entries.move_to_end(prompt[:length])
                return _first(known, min(length, len(prompt) - 1))
        return NOTHING

    def put(self, prompt: Prompt, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
        """Remember ``prompt``; the tensors are copied, ``(heads, len(prompt), head width)`` per layer."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*keys, *values))
        if prompt in self._entries or size > self._budget:
            return
        copies = (tuple(tensor.clone() for tensor in tensors) for tensors in (keys, values))
        self._entries[prompt] = Known(len(prompt), *copies)
        self._lengths[len(prompt)] += 1
        self._bytes += size
        while self._bytes > self._budget:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        prompt, known = self._entries.popitem(last=False)
        self._bytes -= sum(tensor.numel() * tensor.element_size() for tensor in (*known.keys, *known.values))
        self._lengths[len(prompt)] -= 1
        if not self._lengths[len(prompt)]:
            del self._lengths[len(prompt)]


def _first(known: Known, length: int) -> Known:
    if length == known.length:
        return known
    return Known(length, *(tuple(t[:, :length] for t in tensors) for tensors in (known.keys, known.values)))


def stacked(known: list[Known], layer: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return one layer's keys and values of several prefixes, ``(rows, heads, width, head width)``, left-padded with 0.

    ``like`` gives heads, head width, dtype and device.
    """
    shape = (len(known), like.shape[0], width, like.shape[2])
    keys, values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
    for row, prefix in enumerate(known):
        if prefix.length:
            keys[row, :, width - prefix.length :] = prefix.keys[layer]
            values[row, :, width - prefix.length :] = prefix.values[layer]
    return keys, values

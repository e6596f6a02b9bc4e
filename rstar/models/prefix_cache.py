"""Keys and values of earlier texts, so that a text that begins like one of them runs only the rest.

A child's prompt is its parent's plus one step that was generated here; progressive widening sends a node's own prompt
again; the prompts of a few-shot style begin with the same examples. A new text stores only what no other text has: its
entry is a list of parts of segments, and a segment is kept as long as an entry uses it. The least recently used entries
are dropped when a budget of bytes is exceeded.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from rstar.models.token_prefixes import Tokens, shared_tokens

Layers = tuple[Tensor, ...]
"""Of each layer the keys or the values, ``(heads, tokens, head width)``."""


@dataclass(eq=False, slots=True)
class Segment:
    """Keys and values of successive tokens; ``uses`` counts the entries that need it."""

    keys: Layers
    values: Layers
    uses: int = 0

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.keys, *self.values))


class CachedPrefix(NamedTuple):
    """The first ``length`` tokens of a text: of each part the first so many tokens of a segment, in order."""

    length: int
    parts: tuple[tuple[Segment, int], ...]

    @property
    def layers(self) -> int:
        """The number of layers; 0 of no tokens."""
        return len(self.parts[0][0].keys) if self.parts else 0


NOTHING = CachedPrefix(0, ())


class PrefixCache:
    """At most ``budget`` bytes of keys and values. Not thread-safe: one worker owns it."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._bytes = 0
        self._entries: OrderedDict[Tokens, CachedPrefix] = OrderedDict()
        self._sorted: list[Tokens] = []

    @property
    def bytes(self) -> int:
        """The bytes of all keys and values."""
        return self._bytes

    def longest(self, text: Tokens) -> CachedPrefix:
        """Return the longest cached prefix of ``text`` that leaves at least one token to run."""
        return self._shared(text, len(text) - 1)

    def put(self, text: Tokens, layers: Callable[[int], tuple[Sequence[Tensor], Sequence[Tensor]]]) -> None:
        """Add ``text``. ``layers(n)`` gives the keys and values from its token n on, which are copied."""
        known = self._shared(text, len(text))
        if known.length == len(text) or not self.budget:
            return
        keys, values = layers(known.length)
        own = Segment(_copies(keys), _copies(values))
        if own.bytes > self.budget:
            return
        entry = CachedPrefix(len(text), (*known.parts, (own, len(text) - known.length)))
        for segment, _ in entry.parts:
            segment.uses += 1
        self._entries[text] = entry
        insort(self._sorted, text)
        self._bytes += own.bytes
        while self._bytes > self.budget:
            self._drop_oldest()

    def _shared(self, text: Tokens, most: int) -> CachedPrefix:
        # In lexicographic order, the entry that shares the most tokens stands next to the text.
        place = bisect_left(self._sorted, text)
        neighbours = self._sorted[max(0, place - 1) : place + 1]
        shared, best = max(((shared_tokens(entry, text), entry) for entry in neighbours), default=(0, ()))
        length = min(shared, most)
        if length <= 0:
            return NOTHING
        self._entries.move_to_end(best)
        return _shortened(self._entries[best], length)

    def _drop_oldest(self) -> None:
        text, entry = self._entries.popitem(last=False)
        del self._sorted[bisect_left(self._sorted, text)]
        for segment, _ in entry.parts:
            segment.uses -= 1
            if not segment.uses:
                self._bytes -= segment.bytes


def _copies(tensors: Sequence[Tensor]) -> Layers:
    return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors)


def _shortened(entry: CachedPrefix, length: int) -> CachedPrefix:
    parts, left = [], length
    for segment, tokens in entry.parts:
        parts.append((segment, min(tokens, left)))
        left -= tokens
        if left <= 0:
            break
    return CachedPrefix(length, tuple(parts))


def stacked(prefixes: Sequence[CachedPrefix], layer: int, width: int) -> tuple[Tensor, Tensor]:
    """Return one layer's keys and values of several prefixes, ``(rows, heads, width, head width)``, left-padded with 0.

    At least one prefix has tokens: it gives heads, head width, dtype and device.
    """
    like = next(prefix for prefix in prefixes if prefix.length).parts[0][0].keys[layer]
    shape = (len(prefixes), like.shape[0], width, like.shape[2])
    keys, values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
    for row, prefix in enumerate(prefixes):
        column = width - prefix.length
        for segment, tokens in prefix.parts:
            columns = slice(column, column + tokens)
            keys[row, :, columns] = segment.keys[layer][:, :tokens]
            values[row, :, columns] = segment.values[layer][:, :tokens]
            column += tokens
    return keys, values


def cache_of(prefixes: Sequence[CachedPrefix]) -> DynamicCache:
    """Return a cache for a forward pass that holds the prefixes, left-padded to the longest; an empty one for no tokens."""
    cache, width = DynamicCache(), max(prefix.length for prefix in prefixes)
    for layer in range(max(prefix.layers for prefix in prefixes)):
        cache.update(*stacked(prefixes, layer, width), layer)
    return cache

"""The keys and values of all rows that decode together, in buffers that are written in place.

Rows are aligned at their last token: every row writes the column ``cursor``, and row r attends to the columns from
``start[r]`` on. A new row joins between two tokens: its prefix is copied to the columns before the cursor. The row of an
ended candidate is overwritten by another row. So no step copies the whole cache, as ``DynamicCache`` does at every token.
The trade-off: all rows attend over the width of the longest one, so one long row slows the short ones.

Not covered: sliding-window and recurrent layers; the engine limits or refuses such models.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rstar_policy.placement import Ints

_SPARE_COLUMNS: Final = 64


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's buffers ``(row capacity, heads, column capacity, head width)`` and the window in use."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = self.first = self.cursor = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Raise: the arena creates the buffers."""
        raise NotImplementedError("the arena sizes its layers itself")

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token per row at the cursor, and return the window up to it."""
        assert self.keys is not None
        assert self.values is not None
        window = slice(self.first, self.cursor + 1)
        self.keys[: self.rows, :, self.cursor] = key_states[:, :, 0]
        self.values[: self.rows, :, self.cursor] = value_states[:, :, 0]
        return self.keys[: self.rows, :, window], self.values[: self.rows, :, window]

    def get_seq_length(self) -> int:
        """Return the columns in use."""
        return self.cursor - self.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the width of the mask and its offset."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: the buffers grow."""
        return -1


class KvArena:
    """Rows 0 to ``rows - 1`` of all layers. Not thread-safe: one worker owns it."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self._start: Ints = np.zeros(0, dtype=np.int64)
        self._mask = torch.zeros(0, 0)
        self._cursor = 0

    @property
    def rows(self) -> int:
        """Rows in use."""
        return len(self._start)

    def append(self, keys: Sequence[Tensor], values: Sequence[Tensor], lengths: Ints, expected: int = 0) -> None:
        """Add rows from a left-padded prefill: per layer ``(new rows, heads, columns, head width)``.

        ``expected`` is the number of rows to make room for: those that the new ones will be copied to.
        """
        old, new, longest = self.rows, len(lengths), int(lengths.max())
        self._reserve(max(old + new, expected), longest, keys, values)
        into = (slice(old, old + new), slice(None), slice(self._cursor - longest, self._cursor))
        for layer, key, value in zip(self._layers, keys, values, strict=True):
            assert layer.keys is not None
            assert layer.values is not None
            layer.keys[into] = key[:, :, -longest:]
            layer.values[into] = value[:, :, -longest:]
        self._start = np.concatenate([self._start, self._cursor - lengths])
        self._mask_padding(np.arange(old, old + new))

    def rearrange(self, rows: int, sources: Ints, destinations: Ints) -> None:
        """Make row ``destinations[i]`` a copy of row ``sources[i]`` and keep the first ``rows`` rows."""
        if len(sources):
            self._reserve(rows, 0)
            first = int(self._start[sources].min())
            source, destination = torch.from_numpy(sources), torch.from_numpy(destinations)
            for layer in self._layers:
                for buffer in (layer.keys, layer.values):
                    assert buffer is not None
                    window = buffer[:, :, first : self._cursor]
                    window[destination.to(buffer.device)] = window[source.to(buffer.device)]
        start = np.zeros(rows, dtype=np.int64)
        kept = min(rows, self.rows)
        start[:kept] = self._start[:kept]
        start[destinations] = self._start[sources]
        self._start = start
        self._mask_padding(destinations)

    def next_token(self) -> tuple[Cache, Tensor, Tensor]:
        """Return the cache to run one token per row with, the additive mask and the position of that token.

        Shapes: mask ``(rows, 1, 1, columns)``, positions ``(rows, 1)``. Call ``advance`` after the forward pass.
        """
        self._reserve(self.rows, 0)
        first = int(self._start.min())
        for layer in self._layers:
            layer.rows, layer.first, layer.cursor = self.rows, first, self._cursor
        mask = self._mask[: self.rows, None, None, first : self._cursor + 1]
        positions = torch.from_numpy(self._cursor - self._start).unsqueeze(-1).to(mask.device)
        layers: list[Any] = list(self._layers)
        return Cache(layers=layers), mask, positions

    def columns(self, row: int, since: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return, per layer, the keys and values of a row from its token ``since`` on, ``(heads, tokens, head width)``."""
        window = slice(int(self._start[row]) + since, self._cursor)
        keys, values = [], []
        for layer in self._layers:
            assert layer.keys is not None
            assert layer.values is not None
            keys.append(layer.keys[row, :, window])
            values.append(layer.values[row, :, window])
        return keys, values

    def advance(self) -> None:
        """Move the cursor past the token that the forward pass has written."""
        self._cursor += 1

    def clear(self) -> None:
        """Drop all rows and free the buffers."""
        self._layers = []
        self._start = np.zeros(0, dtype=np.int64)
        self._cursor = 0

    def _mask_padding(self, rows: Ints) -> None:
        """Mask the columns left of each row's first token."""
        columns = torch.arange(self._mask.shape[1])
        hidden = columns < torch.from_numpy(self._start[rows]).unsqueeze(-1)
        lowest = torch.finfo(self._mask.dtype).min
        values = torch.zeros(hidden.shape, dtype=self._mask.dtype).masked_fill_(hidden, lowest)
        self._mask[torch.from_numpy(rows).to(self._mask.device)] = values.to(self._mask.device)

    def _reserve(self, rows: int, before: int, keys: Sequence[Tensor] = (), values: Sequence[Tensor] = ()) -> None:
        """Make room for ``rows`` rows, ``before`` columns left of the cursor and one column at it.

        Columns that no row uses any more are reused; the buffers grow by doubling. The first call needs ``keys`` and
        ``values`` for the layers' shapes.
        """
        row_capacity, column_capacity = self._mask.shape if self._layers else (0, 0)
        if rows <= row_capacity and before <= self._cursor < column_capacity:
            return
        first = int(self._start.min()) if self.rows else self._cursor
        width = self._cursor - first
        cursor = max(width, before)
        if rows > row_capacity or cursor + _SPARE_COLUMNS > column_capacity:
            row_capacity = max(rows, min(2 * rows, 2 * row_capacity))
            column_capacity = max(column_capacity, 2 * cursor + _SPARE_COLUMNS)
        shape = (row_capacity, column_capacity)
        if not self._layers:
            self._layers = [_Layer() for _ in keys]
        for i, layer in enumerate(self._layers):
            layer.keys = self._moved(layer.keys if layer.keys is not None else keys[i][:0], shape, first, cursor)
            layer.values = self._moved(
                layer.values if layer.values is not None else values[i][:0], shape, first, cursor
            )
        some = self._layers[0].keys
        assert some is not None
        if self._mask.shape != shape or self._mask.dtype != some.dtype or self._mask.device != some.device:
            self._mask = torch.zeros(shape, dtype=some.dtype, device=some.device)
        self._start = self._start + (cursor - self._cursor)
        self._cursor = cursor
        self._mask_padding(np.arange(self.rows))

    def _moved(self, buffer: Tensor, shape: tuple[int, int], first: int, cursor: int) -> Tensor:
        """Return a buffer of ``shape`` whose columns in use end before ``cursor``; the old one where it is large enough."""
        used = buffer[: self.rows, :, first : self._cursor]
        _, heads, _, width = buffer.shape
        if (buffer.shape[0], buffer.shape[2]) == shape:
            used, target = used.clone(), buffer
        else:
            target = _zeros((shape[0], heads, shape[1], width), buffer)
        target[: self.rows, :, cursor - used.shape[2] : cursor] = used
        return target


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return zeros of the dtype and on the device of ``like``.

    Zeros, not uninitialised memory: masked values enter the sum with weight 0, and 0 times NaN is NaN. On a CPU the
    system gives zeroed pages when they are first written, so spare capacity costs neither time nor memory.
    """
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    # numpy's zeros would ask for huge pages, which took the system five times as long to provide here.
    pages = mmap.mmap(-1, math.prod(shape) * like.element_size())
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)

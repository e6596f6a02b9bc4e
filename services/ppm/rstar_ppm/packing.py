"""Many candidates of one prefix in one row: [prefix | candidate 1 | ... | candidate n].

Each candidate has the positions that it would have directly after the prefix, and attends only to the prefix and itself.
So one forward pass scores all candidates and runs the prefix once, without a key-value cache. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

SHORT_ROW: Final = 256
MASK_ELEMENTS: Final = 2**25
"""Most elements of one attention mask (128 MiB in float32): it is quadratic in the packed length."""


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of a prefix and of candidates after it; ``slots[j]`` numbers the score of candidate j.

    A row of ``marks``, positions in the prefix, has no candidates: the score ``slots[j]`` is that at ``marks[j]``.
    """

    prefix: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    slots: tuple[int, ...]
    marks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.candidates))


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of rows, padded at the end: ``ids``, ``positions`` and ``segment`` are ``(rows, columns)``.

    ``segment``: 0 for the prefix, j for candidate j (from 1), -1 for padding. The last token of a candidate, or
    the mark, is at ``(row[i], column[i])``, and its score belongs to ``slot[i]``.
    """

    ids: Tensor
    positions: Tensor
    segment: Tensor
    row: Tensor
    column: Tensor
    slot: tuple[int, ...]


def rows_of(prefix: Sequence[int], candidates: Sequence[Sequence[int]], first_slot: int) -> Iterator[Row]:
    """Split one request into rows. The candidates of a row are together at most as long as the prefix.

    With more, attention over the other candidates' tokens costs more than it saves in passes over the prefix.
    """
    room = max(len(prefix), SHORT_ROW)
    held: list[tuple[int, ...]] = []
    slots: list[int] = []
    for slot, candidate in enumerate(candidates, start=first_slot):
        if held and sum(map(len, held)) + len(candidate) > room:
            yield Row(tuple(prefix), tuple(held), tuple(slots))
            held, slots = [], []
        held.append(tuple(candidate))
        slots.append(slot)
    if held:
        yield Row(tuple(prefix), tuple(held), tuple(slots))


def batches(rows: Sequence[Row], max_rows: int) -> Iterator[list[Row]]:
    """Group rows of similar length, for little padding: at most ``max_rows`` and ``MASK_ELEMENTS`` per batch."""
    batch: list[Row] = []
    for row in sorted(rows, key=len):
        if batch and (len(batch) == max_rows or (len(batch) + 1) * len(row) ** 2 > MASK_ELEMENTS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pack(rows: Sequence[Row]) -> Packed:
    """Lay the rows out as tensors."""
    shape = (len(rows), max(map(len, rows)))
    ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segment = np.full(shape, -1, dtype=np.int64)
    ends: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        start = len(row.prefix)
        ids[i, :start], positions[i, :start], segment[i, :start] = row.prefix, np.arange(start), 0
        ends += [(i, mark) for mark in row.marks]
        for j, candidate in enumerate(row.candidates, start=1):
            end = start + len(candidate)
            ids[i, start:end], segment[i, start:end] = candidate, j
            positions[i, start:end] = len(row.prefix) + np.arange(len(candidate))
            # An empty candidate is scored at the end of the prefix.
            ends.append((i, end - 1 if candidate else len(row.prefix) - 1))
            start = end
    where = torch.tensor(ends)
    slot = tuple(slot for row in rows for slot in row.slots)
    return Packed(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(segment),
        where[:, 0],
        where[:, 1],
        slot,
    )


def tree_mask(segment: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask ``(rows, 1, columns, columns)``: 0 where a query attends, else the lowest number."""
    key, query = segment[:, None, :], segment[:, :, None]
    columns = torch.arange(segment.shape[1], device=segment.device)
    seen = ((key == 0) | (key == query)) & (key >= 0) & (columns[None, :] <= columns[:, None])
    mask = torch.zeros(seen.shape, dtype=dtype, device=segment.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)

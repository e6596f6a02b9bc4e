"""Many candidates of one prefix in one row: [prefix | candidate 1 | ... | candidate n].

Each candidate has the positions that it would have directly after the prefix, and attends only to the prefix and itself.
So one forward pass scores all candidates and runs the prefix once. The first tokens of a prefix may be in a cache of keys
and values (``past``): they are not run, and stand left of the row's other tokens. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

SHORT_ROW: Final = 256


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

    @property
    def cacheable(self) -> tuple[int, ...]:
        """The tokens whose last is run in any case; those before it may be cached. Every score needs a token that is run."""
        return self.prefix[: self.marks[0] + 1] if self.marks else self.prefix


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of rows, padded at the end: ``ids``, ``positions`` and ``segment`` are ``(rows, columns)``.

    ``segment``: 0 for the prefix, j for candidate j (from 1), -1 for padding. The last token of a candidate, or
    the mark, is at ``(row[i], column[i])``, and its score belongs to ``slot[i]``. ``past``, ``(rows,)``: how many tokens of
    each prefix are not among the columns.
    """

    ids: Tensor
    positions: Tensor
    segment: Tensor
    row: Tensor
    column: Tensor
    slot: tuple[int, ...]
    past: Tensor


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


def pack(rows: Sequence[Row], past: Sequence[int]) -> Packed:
    """Lay the rows out as tensors, without the first ``past[i]`` tokens of row i."""
    shape = (len(rows), max(len(row) - known for row, known in zip(rows, past, strict=True)))
    ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segment = np.full(shape, -1, dtype=np.int64)
    ends: list[tuple[int, int]] = []
    for i, (row, known) in enumerate(zip(rows, past, strict=True)):
        start = len(row.prefix) - known
        ids[i, :start], segment[i, :start] = row.prefix[known:], 0
        positions[i, :start] = np.arange(known, len(row.prefix))
        ends += [(i, mark - known) for mark in row.marks]
        for j, candidate in enumerate(row.candidates, start=1):
            end = start + len(candidate)
            ids[i, start:end], segment[i, start:end] = candidate, j
            positions[i, start:end] = len(row.prefix) + np.arange(len(candidate))
            # An empty candidate is scored at the end of the prefix.
            ends.append((i, (end if candidate else len(row.prefix) - known) - 1))
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
        torch.tensor(past),
    )


def tree_mask(segment: Tensor, past: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask, 0 where a query attends, else the lowest number.

    ``(rows, 1, columns, width + columns)``: the cached tokens of each row are right-aligned in the first ``width`` keys, with
    ``width`` the largest of ``past``, and every query attends to them.
    """
    key, query = segment[:, None, :], segment[:, :, None]
    columns = torch.arange(segment.shape[1], device=segment.device)
    seen = ((key == 0) | (key == query)) & (key >= 0) & (columns[None, :] <= columns[:, None])
    width = int(past.max())
    cached = torch.arange(width, device=segment.device)[None, :] >= width - past[:, None]
    seen = torch.cat([cached[:, None, :].expand(-1, segment.shape[1], -1), seen], dim=2)
    mask = torch.zeros(seen.shape, dtype=dtype, device=segment.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)

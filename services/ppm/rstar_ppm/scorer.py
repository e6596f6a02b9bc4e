"""Scores of packed rows by one model: its head at each candidate's last token.

A packed row has several last tokens, so the backbone and the head are called separately. Keys and values of prefixes and
of candidates are kept: the next call of a search has the prefix of the last one and one of its candidates. At loading,
packed scores are compared with those of plain forward passes; if they differ, the model scores one sequence at a time,
and if only those after cached prefixes differ, nothing is kept. Synchronous.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import structlog
import torch
from torch import Tensor

from rstar.models.forward_passes import planned
from rstar.models.prefix_cache import CachedPrefix, PrefixCache, cache_of
from rstar_ppm.heads import ScoringModel
from rstar_ppm.packing import Row, pack, tree_mask

DECIMALS: Final = 6
"""Scores are rounded: the last bits depend on the rest of the batch, and must not decide between two steps."""


class Scorer:
    """Scores rows with a decoder and its head."""

    def __init__(self, model: ScoringModel, prefix_bytes: int = 0) -> None:
        """Take a model in evaluation mode and check whether it can score packed rows.

        ``prefix_bytes``: most bytes of keys and values that are kept.
        """
        self._model = model.decoder
        self._head = model.head
        self._prefixes = PrefixCache(0)
        self._packed = self._can_pack()
        if not self._packed:
            structlog.get_logger().warning("packed_scoring_off", architecture=self._model.config.model_type)
        elif prefix_bytes:
            self._prefixes = PrefixCache(prefix_bytes)
            if not self._can_pack(twice=True):
                self._prefixes = PrefixCache(0)
                structlog.get_logger().warning("cached_prefixes_off", architecture=self._model.config.model_type)

    @property
    def packed(self) -> bool:
        """Whether the model scores packed rows."""
        return self._packed

    def batches(self, rows: Sequence[Row], max_rows: int) -> Iterator[list[Row]]:
        """Group rows for ``score``. Take the next group after the last one is scored: it may find more prefixes cached."""
        texts = [row.cacheable if self._prefixes.budget else () for row in rows]  # with no cache, nothing is shared
        for places in planned(texts, list(map(len, rows)), lambda i: self._prefixes.longest(texts[i]).length, max_rows):
            yield [rows[i] for i in places]

    def score(self, rows: Sequence[Row]) -> dict[int, float]:
        """Return scores in [-1, 1] by slot, rounded to ``DECIMALS``. Raises ``ArithmeticError`` when one is NaN."""
        raw = self._score_packed(rows) if self._packed else self._score_plain(rows)
        if any(map(math.isnan, raw.values())):
            raise ArithmeticError("the model gave scores that are no numbers: its weights or its dtype are broken")
        return {slot: round(score, DECIMALS) for slot, score in raw.items()}

    @torch.inference_mode()
    def _score_packed(self, rows: Sequence[Row]) -> dict[int, float]:
        prefixes = [self._prefixes.longest(row.cacheable) for row in rows]
        packed = pack(rows, [prefix.length for prefix in prefixes])
        device = self._model.device
        output = self._model(
            input_ids=packed.ids.to(device),
            attention_mask=tree_mask(packed.segment.to(device), packed.past.to(device), self._model.dtype),
            position_ids=packed.positions.to(device),
            past_key_values=cache_of(prefixes) if self._prefixes.budget else None,
            use_cache=bool(self._prefixes.budget),
        )
        if self._prefixes.budget:
            self._keep(rows, prefixes, output.past_key_values)
        hidden = output.last_hidden_state
        scores = self._head(hidden[packed.row.to(device), packed.column.to(device)])
        return dict(zip(packed.slot, scores.tolist(), strict=True))

    def _keep(self, rows: Sequence[Row], prefixes: Sequence[CachedPrefix], cache: Any) -> None:
        """Keep the keys and values of each row's prefix and candidates."""
        width = max(prefix.length for prefix in prefixes)
        keys, values = ([getattr(layer, name) for layer in cache.layers] for name in ("keys", "values"))
        for i, (row, prefix) in enumerate(zip(rows, prefixes, strict=True)):
            # The tokens of a prefix stand in successive columns, cached ones too.
            first = width - prefix.length
            columns = range(first, first + len(row.prefix))
            end = columns.stop
            for candidate in ((), *row.candidates):
                own = range(end, end + len(candidate))
                self._prefixes.put((*row.prefix, *candidate), partial(_columns, keys, values, i, columns, own))
                end = own.stop

    @torch.inference_mode()
    def _score_plain(self, rows: Sequence[Row]) -> dict[int, float]:
        scores: dict[int, float] = {}
        for row in rows:
            if row.marks:
                values = self._head(self._hidden(row.prefix)[list(row.marks)])
                scores |= dict(zip(row.slots, values.tolist(), strict=True))
                continue
            for slot, candidate in zip(row.slots, row.candidates, strict=True):
                scores[slot] = float(self._head(self._hidden((*row.prefix, *candidate))[-1:]))
        return scores

    def _hidden(self, tokens: Sequence[int]) -> torch.Tensor:
        """Return the last hidden states of one sequence, ``(tokens, width)``."""
        ids = torch.tensor([tokens], device=self._model.device)
        # Without an explicit mask some architectures treat a token with the padding's id as padding.
        states: torch.Tensor = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).last_hidden_state[0]
        return states

    def _can_pack(self, *, twice: bool = False) -> bool:
        """Return whether packed scores are the plain ones; ``twice``: also those after the prefixes that the first call kept."""
        rows = [
            Row((1, 2, 3), ((4, 5), (6,), (4, 5, 7, 8)), (0, 1, 2)),
            Row((1, 2, 3, 4, 5, 6, 7), ((2, 1),), (3,)),
            Row((1, 2, 3, 4, 5), (), (4, 5), marks=(2, 4)),
        ]
        plain = self._score_plain(rows)
        try:
            packed = [self._score_packed(rows) for _ in range(1 + twice)]
        except (TypeError, AttributeError, RuntimeError, ValueError, IndexError, NotImplementedError):
            return False
        tolerance = 1e-4 if self._model.dtype == torch.float32 else 5e-2
        return all(abs(scores[slot] - plain[slot]) <= tolerance for scores in packed for slot in plain)


def _columns(
    keys: Sequence[Tensor], values: Sequence[Tensor], row: int, prefix: range, candidate: range, since: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return, per layer, a row's columns of a prefix and of a candidate from token ``since`` on, ``(heads, tokens, width)``."""
    parts = prefix[since:], candidate[max(0, since - len(prefix)) :]
    windows = [slice(part.start, part.stop) for part in parts if part]

    def of(tensor: Tensor) -> Tensor:
        found = [tensor[row, :, window] for window in windows]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    return [of(key) for key in keys], [of(value) for value in values]

"""Scores of packed rows by one model: its head at each candidate's last token.

A packed row has several last tokens, so the backbone and the head are called separately. At loading, packed scores are
compared with those of plain forward passes; if they differ, the model scores one sequence at a time. Synchronous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import structlog
import torch

from rstar_ppm.heads import ScoringModel
from rstar_ppm.packing import Row, pack, tree_mask

DECIMALS: Final = 6
"""Scores are rounded: the last bits depend on the rest of the batch, and must not decide between two steps."""


class Scorer:
    """Scores rows with a decoder and its head."""

    def __init__(self, model: ScoringModel) -> None:
        """Take a model in evaluation mode and check whether it can score packed rows."""
        self._model = model.decoder
        self._head = model.head
        self._packed = self._can_pack()
        if not self._packed:
            structlog.get_logger().warning("packed_scoring_off", architecture=self._model.config.model_type)

    @property
    def packed(self) -> bool:
        """Whether the model scores packed rows."""
        return self._packed

    def score(self, rows: Sequence[Row]) -> dict[int, float]:
        """Return scores in [-1, 1] by slot, rounded to ``DECIMALS``. Raises ``ArithmeticError`` when one is NaN."""
        raw = self._score_packed(rows) if self._packed else self._score_plain(rows)
        if any(map(math.isnan, raw.values())):
            raise ArithmeticError("the model gave scores that are no numbers: its weights or its dtype are broken")
        return {slot: round(score, DECIMALS) for slot, score in raw.items()}

    @torch.inference_mode()
    def _score_packed(self, rows: Sequence[Row]) -> dict[int, float]:
        packed = pack(rows)
        device = self._model.device
        hidden = self._model(
            input_ids=packed.ids.to(device),
            attention_mask=tree_mask(packed.segment.to(device), self._model.dtype),
            position_ids=packed.positions.to(device),
            use_cache=False,
        ).last_hidden_state
        scores = self._head(hidden[packed.row.to(device), packed.column.to(device)])
        return dict(zip(packed.slot, scores.tolist(), strict=True))

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

    def _can_pack(self) -> bool:
        rows = [
            Row((1, 2, 3), ((4, 5), (6,), (4, 5, 7, 8)), (0, 1, 2)),
            Row((1, 2, 3, 4, 5, 6, 7), ((2, 1),), (3,)),
            Row((1, 2, 3, 4, 5), (), (4, 5), marks=(2, 4)),
        ]
        plain = self._score_plain(rows)
        try:
            packed = self._score_packed(rows)
        except (TypeError, AttributeError, RuntimeError, ValueError, IndexError, NotImplementedError):
            return False
        tolerance = 1e-4 if self._model.dtype == torch.float32 else 5e-2
        return all(abs(packed[slot] - plain[slot]) <= tolerance for slot in plain)

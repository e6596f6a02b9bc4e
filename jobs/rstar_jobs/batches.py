"""Padded tensors of encoded examples. Padding is on the right and carries no attention and no loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rstar_jobs.encoded import NO_LOSS, EncodedExample, EncodedPair
from rstar_jobs.token_file import Tokens


def padded(rows: Sequence[Tokens], filler: int) -> torch.Tensor:
    """Return a (rows, longest) tensor of int64."""
    result = torch.full((len(rows), max(map(len, rows))), filler)
    for i, row in enumerate(rows):
        result[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
    return result


def masked(rows: Sequence[Tokens], pad_id: int) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask``, each (rows, longest)."""
    return {
        "input_ids": padded(rows, pad_id),
        "attention_mask": padded([np.ones(len(row), np.int32) for row in rows], 0),
    }


class ExampleCollator:
    """Turns SFT examples into ``input_ids``, ``attention_mask`` and ``labels``."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, torch.Tensor]:
        """Return tensors of shape (examples, longest)."""
        labels = padded([example.labels for example in examples], NO_LOSS)
        return {**masked([example.ids for example in examples], self._pad_id), "labels": labels}


class PairCollator:
    """Turns pairs into their distinct sequences and, per pair, the positions of its two.

    The 2x2 pairs of a node share four sequences; each runs through the model once per batch.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict[str, torch.Tensor]:
        """Return ``input_ids`` and ``attention_mask`` (sequences, longest); ``chosen``, ``rejected``, ``weight`` (pairs,)."""
        rows: dict[bytes, Tokens] = {}
        for side in (*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)):
            rows.setdefault(side.tobytes(), side)
        places = {content: place for place, content in enumerate(rows)}
        chosen = [places[pair.chosen.tobytes()] for pair in pairs]
        rejected = [places[pair.rejected.tobytes()] for pair in pairs]
        return {
            **masked(list(rows.values()), self._pad_id),
            "chosen": torch.tensor(chosen),
            "rejected": torch.tensor(rejected),
            "weight": torch.tensor([pair.weight for pair in pairs]),
        }

"""Padded tensors of encoded examples. Padding is on the right and carries no attention and no loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rstar_jobs.encoded import NO_LOSS, EncodedExample, EncodedPair


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Return a (rows, longest) tensor of int64."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def masked(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask``, each (rows, longest)."""
    return {"input_ids": padded(rows, pad_id), "attention_mask": padded([[1] * len(row) for row in rows], 0)}


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
        places: dict[tuple[int, ...], int] = {}
        chosen = [places.setdefault(tuple(pair.chosen), len(places)) for pair in pairs]
        rejected = [places.setdefault(tuple(pair.rejected), len(places)) for pair in pairs]
        return {
            **masked(list(places), self._pad_id),
            "chosen": torch.tensor(chosen),
            "rejected": torch.tensor(rejected),
            "weight": torch.tensor([pair.weight for pair in pairs]),
        }

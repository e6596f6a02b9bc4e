"""The PPM's loss and its held-out accuracy (equation 4, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from rstar_jobs.batches import PairCollator
from rstar_jobs.encoded import EncodedPair


def pairwise_loss(
    scores: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor, weight: torch.Tensor, scale: float
) -> torch.Tensor:
    """Equation 4: the weighted mean of -log sigmoid(scale * (r(y+) - r(y-))).

    ``scores`` (sequences,) are in [-1, 1]; ``chosen`` and ``rejected`` (pairs,) are positions in it; ``weight`` (pairs,)
    is 1/(|positives| |negatives|) of a pair's node, so every node counts once.
    """
    losses = -logsigmoid(scale * (scores[chosen] - scores[rejected]))
    return (losses * weight).sum() / weight.sum()


def scores_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return tanh of the model's logit at the last token of each sequence, (sequences,), in float32."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return torch.tanh(logits.squeeze(-1).float())


def pairwise_trainer(scale: float) -> type[Trainer]:
    """Return a ``Trainer`` class with the loss of equation 4."""

    class PairwiseTrainer(Trainer):
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, torch.Tensor],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> Any:
            scores = scores_of(model, inputs)
            loss = pairwise_loss(scores, inputs["chosen"], inputs["rejected"], inputs["weight"], scale)
            return (loss, {"scores": scores}) if return_outputs else loss

    return PairwiseTrainer


def pair_accuracy(
    model: Any, pairs: Sequence[EncodedPair], collator: PairCollator, batch_size: int
) -> tuple[float | None, float | None]:
    """Return the share of pairs whose chosen side scores higher: of all pairs, and of the non-final ones.

    None where there are no such pairs. A tie counts as wrong.
    """
    ordered = sorted(pairs, key=lambda pair: len(pair.chosen) + len(pair.rejected))
    hits: list[bool] = []
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ordered), batch_size):
            batch = {k: v.to(device) for k, v in collator(ordered[start : start + batch_size]).items()}
            scores = scores_of(model, batch)
            hits += (scores[batch["chosen"]] > scores[batch["rejected"]]).tolist()
    non_final = [hit for hit, pair in zip(hits, ordered, strict=True) if not pair.final]
    return _share(hits), _share(non_final)


def _share(hits: Sequence[bool]) -> float | None:
    return round(sum(hits) / len(hits), 6) if hits else None

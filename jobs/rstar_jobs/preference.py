"""The PPM's loss and its held-out accuracy (equation 4, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from rstar_jobs.batches import PairCollator
from rstar_jobs.encoded import EncodedPair
from rstar_jobs.preference_head import HEAD_SLOPE, check_slope


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
    """Return a ``Trainer`` class with the loss of equation 4.

    Before its first step it adds ``HEAD_SLOPE`` to the log of its state, which checkpoints keep, so that a resumed run
    has the slope of the real start. Raises ``BadInputError`` there in all processes when the head is saturated.
    """

    class PairwiseTrainer(Trainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._slopes: list[torch.Tensor] = []

        def training_step(
            self,
            model: Any,
            inputs: dict[str, Any],
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor:
            loss = super().training_step(model, inputs, num_items_in_batch)
            if self._slopes and self.accelerator.sync_gradients:
                slopes = torch.cat(self._slopes)
                self._slopes.clear()
                total, count = self.accelerator.reduce(torch.stack([slopes.sum(), slopes.new_tensor(len(slopes))]))
                slope = float(total / count)
                check_slope(slope)
                self.state.log_history.append({HEAD_SLOPE: round(slope, 6), "step": 0})
            return loss

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, torch.Tensor],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> Any:
            scores = scores_of(model, inputs)
            if model.training and self.state.global_step == 0:
                self._slopes.append(1 - scores.detach() ** 2)
            loss = pairwise_loss(scores, inputs["chosen"], inputs["rejected"], inputs["weight"], scale)
            return (loss, {"scores": scores}) if return_outputs else loss

    return PairwiseTrainer


def margins(
    model: Any, pairs: Sequence[EncodedPair], lengths: Sequence[int], collator: PairCollator, batch_size: int
) -> list[float]:
    """Return r(y+) - r(y-) of each pair, -2 to 2, in the order given. A pair is ranked right when it is above 0.

    ``lengths``: tokens of both sides of each pair; pairs of similar length share a batch.
    """
    order = sorted(range(len(pairs)), key=lengths.__getitem__)
    found = [0.0] * len(pairs)
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            batch = {k: v.to(device) for k, v in collator([pairs[i] for i in some]).items()}
            scores = scores_of(model, batch)
            differences = (scores[batch["chosen"]] - scores[batch["rejected"]]).tolist()
            for place, difference in zip(some, differences, strict=True):
                found[place] = difference
    return found

"""The scalar head of a new PPM: where it is, how it starts, and the check that tanh is not saturated.

A real model's last hidden state is long (norm 161 in Qwen2.5-0.5B), so a head with the usual random weights gives logits far
from 0. There tanh is flat, and the PPM learns nothing or only for some seeds. A head that starts near 0 gives scores near
0, where tanh has slope 1, whatever the length of the hidden state; the public release starts its head likewise.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from rstar_jobs.errors import BadInputError

HEAD_SLOPE: Final = "head_mean_slope"
"""Key in the metrics of train-ppm: mean slope of tanh, 1 - tanh(logit)^2, over the sequences of the first batch."""

START_STD: Final = 1e-6
"""Standard deviation of the head's first weights, as in the public release. Its logits have this times the norm of the
hidden state: 1.6e-4 for a norm of 161, and still below 1 for a norm of 100,000. All weights 0 would give every pair a tie."""

LEAST_SLOPE: Final = 0.5
"""Measured on a separable task with hidden states of norm 161, 12 seeds for each of 6 sizes of the head's weights: after 20
steps every run that began with a slope of at least .5 ranked .94 or more of the pairs right; from .3 to .5 some stayed at .83,
below .3 at .67, below .15 at .44. A head started by ``start_head`` has a slope above .999."""


def start_head(model: Any, seed: int) -> None:
    """Draw the weights of the scalar head near 0, the same for the same ``seed``; its bias becomes 0.

    Raises ``BadInputError`` when the model has no such head.
    """
    head = scalar_head(model)
    draw = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed % 2**63), dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(START_STD * draw)
        if head.bias is not None:
            head.bias.zero_()


def scalar_head(model: Any) -> nn.Linear:
    """Return the layer whose output is the logit. Raises ``BadInputError`` when the model has none or several.

    Architectures name it differently (``score``, ``classifier.out_proj``, ``logits_proj``), so it is found by its place
    outside the backbone and its one output. Layers before it, where there are some, keep the model's own first weights.
    """
    backbone = set(getattr(model, model.base_model_prefix, nn.Module()).modules())
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and module not in backbone
    ]
    if len(found) != 1:
        kind = type(model).__name__
        raise BadInputError(f"{kind} has {len(found)} scalar heads where a PPM needs one: use another base model")
    return found[0]


def check_slope(slope: float) -> None:
    """Raise ``BadInputError`` when tanh is saturated at the start of the training (also when a score is not a number)."""
    if not slope >= LEAST_SLOPE:
        raise BadInputError(
            f"the PPM's head starts in saturation: the mean slope of tanh is {slope:.3g} on the first batch, and it must be at "
            f"least {LEAST_SLOPE:g} for the PPM to learn; the last hidden states of this round's policy are too large or no "
            "numbers: check the policy's training (a lower trainPolicy.learningRate), or use another base model"
        )

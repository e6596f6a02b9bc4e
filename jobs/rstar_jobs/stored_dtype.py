"""The number format of a stored checkpoint: which one, and the weights in it.

A model is trained with weights in float32, because small updates are lost in bfloat16. It is served in bfloat16 on GPUs,
and so stored in it: a 7B policy then takes 15 GB instead of 30.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rstar.rounds.training_spec import TrainingSpec


def stored_dtype(spec: TrainingSpec, *, on_gpu: bool) -> torch.dtype:
    """Return the format that the spec asks for; auto is bfloat16 after training in bfloat16 or on a GPU."""
    if spec.stored_dtype == "auto":
        return torch.bfloat16 if on_gpu or spec.precision == "bfloat16" else torch.float32
    return torch.bfloat16 if spec.stored_dtype == "bfloat16" else torch.float32


def round_weights(model: Any, dtype: torch.dtype) -> None:
    """Round all weights, sharded ones too, to values that ``dtype`` has: what is measured then is what is stored."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point() and weight.dtype != dtype:
                weight.copy_(weight.to(dtype))


def in_dtype(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a state in ``dtype``; tensors that share memory, such as tied embeddings, still do."""
    cast: dict[int, torch.Tensor] = {}
    return {
        name: cast.setdefault(tensor.data_ptr(), tensor.to(dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }

"""Stores the weights of large linear layers in the order in which oneDNN multiplies, on x86 processors.

A plain product reorders the weights at every call. With few rows that costs as much as the product itself: one token of
a 0.5B model in float32 took 1.7 times as long for 4 rows, 1.4 times for 26 and 1.2 times for 64 (AVX2). One row, and
prompts of hundreds of tokens, are up to a third slower with packed weights; a search has few of these. The operators are those of
torch's own compiler; where a version of torch lacks them, the layers stay as they are.
"""

from __future__ import annotations

import platform
from typing import Any, Final

import torch
from torch import Tensor, nn

_ROWS: Final = 32
"""Rows for which oneDNN chooses the order."""

_SMALLEST: Final = 1 << 18
"""Weights of the smallest layer that is packed: calling the operator costs 30 microseconds more than a plain product."""


class PackedLinear(nn.Module):
    """A linear layer for inference; ``weight`` has the shape and dtype of the original, but not its values."""

    def __init__(self, linear: nn.Linear) -> None:
        """Copy the weights of ``linear`` in oneDNN's order."""
        super().__init__()
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.new_zeros(()).expand(linear.weight.shape)
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, values: Tensor) -> Tensor:
        """Return the products, ``(..., out_features)``, of ``values (..., in_features)``."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._packed, self.bias, "none", [], "")
        return product


def can_pack(model: nn.Module) -> bool:
    """Return whether this torch and this processor multiply packed weights of the model's device and dtype."""
    some = next(model.parameters())
    operators = torch.ops.mkldnn
    if platform.machine() not in ("x86_64", "AMD64") or some.device.type != "cpu":
        return False
    if not (torch.backends.mkldnn.is_available() and hasattr(operators, "_linear_pointwise")):  # type: ignore[no-untyped-call]
        return False
    match some.dtype:
        case torch.float32:
            return True
        case torch.bfloat16:
            return bool(operators._is_mkldnn_bf16_supported())
        case torch.float16:
            return bool(operators._is_mkldnn_fp16_supported())
        case _:
            return False


@torch.inference_mode()
def pack(model: Any) -> bool:
    """Pack the large linear layers of ``model``; return False if it then gives other logits, and so is broken.

    A weight that is also the embedding's is needed twice; the others are freed.
    """
    ids = torch.arange(8).unsqueeze(0)
    before = model(ids, use_cache=False).logits
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer) is nn.Linear and layer.weight.numel() >= _SMALLEST:
                setattr(module, name, PackedLinear(layer))
    try:
        after = model(ids, use_cache=False).logits
    except (AttributeError, RuntimeError, TypeError):
        return False
    # Half precision changes logits by a few per cent, another weight by as much as the logits themselves.
    return bool((after - before).abs().max() <= 0.1 * before.abs().max() + 1e-6)

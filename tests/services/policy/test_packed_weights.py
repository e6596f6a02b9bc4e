"""Packed linear layers give the results of plain ones, and a model that packing breaks is served unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rstar_policy import loading
from rstar_policy.packed_weights import PackedLinear, can_pack, pack
from torch import nn
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.skipif(not can_pack(nn.Linear(1, 1)), reason="this processor or torch has no packed weights")


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar_policy.packed_weights._SMALLEST", 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 32, 300])
def test_a_packed_layer_multiplies_as_a_plain_one(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 130, bias=bias)
    values = torch.randn(2, rows, 48)
    packed = PackedLinear(layer)
    assert torch.allclose(packed(values), layer(values), atol=1e-5)
    assert (packed.weight.shape, packed.weight.dtype) == (layer.weight.shape, layer.weight.dtype)


def test_all_linear_layers_of_a_loaded_model_are_packed_and_its_logits_stay(checkpoint: Path) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    model = loading.load_model(checkpoint, device="cpu", dtype="float32", threads=1).model
    assert not any(type(module) is nn.Linear for module in model.modules())
    ids = torch.arange(200).reshape(4, 50)
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-4)


def test_a_model_that_reads_the_values_of_its_weights_is_served_unpacked(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    reading = type(plain.model.layers[0].mlp)
    monkeypatch.setattr(
        reading,
        "forward",
        lambda mlp, x: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * nn.functional.linear(x, mlp.up_proj.weight)),
    )
    assert not pack(plain)
    model = loading.load_model(checkpoint, device="cpu", dtype="float32", threads=1).model
    assert type(model.model.layers[0].mlp.up_proj) is nn.Linear

"""Settings of training at real sizes: the stored format, gradient checkpointing, attention, LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rstar_jobs.stored_dtype import in_dtype, stored_dtype
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rstar.rounds.observed import ManifestRef
from rstar.rounds.training_spec import TrainingSpec
from rstar.trajectory import MARKERS
from tests.support.jobs.stage_workspace import StageWorkspace, examples, make_base, pairs

TRAINING = {"epochs": 1, "batchSize": 8, "microBatchSize": 4, "learningRate": 1e-3, "saveSteps": 3}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}


def new_workspace(folder: Path, base: dict[str, Any] | None = None, **training: Any) -> StageWorkspace:
    folder.mkdir(parents=True, exist_ok=True)
    make_base(folder / "base", **(base or {}))
    settings = {**TRAINING, **training}
    return StageWorkspace(folder, trainPolicy=settings, trainPpm={**settings, "scoreScale": 4})


def selected(workspace: StageWorkspace) -> ManifestRef:
    held_out = [(pair, "held_out") for pair in pairs(4)]
    return workspace.selected(examples(20), [(pair, "train") for pair in pairs(20)] + held_out)


def trained(workspace: StageWorkspace, stage: str = "train_policy", policy: Path | None = None) -> Path:
    """Train to the end and return the checkpoint's folder."""
    inputs = {"select": selected(workspace)}
    if policy is not None:
        inputs["policy"] = workspace.trained("train-policy", policy)
    code, result = workspace.run(stage, inputs)
    assert code == 0, result
    return workspace.store.path(f"{workspace.ref().prefix}/checkpoint")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("stored", "precision", "on_gpu", "expected"),
    [
        ("auto", "float32", False, torch.float32),
        ("auto", "float32", True, torch.bfloat16),
        ("auto", "bfloat16", False, torch.bfloat16),
        ("float32", "bfloat16", True, torch.float32),
        ("bfloat16", "float32", False, torch.bfloat16),
    ],
)
def test_a_checkpoint_is_stored_in_bfloat16_after_training_in_it_or_on_a_gpu(
    stored: Any, precision: Any, on_gpu: bool, expected: torch.dtype
) -> None:
    assert stored_dtype(TrainingSpec(stored_dtype=stored, precision=precision), on_gpu=on_gpu) == expected


def test_tied_weights_are_still_tied_in_another_format() -> None:
    weight = torch.ones(3)
    state = in_dtype(
        {"a": weight, "b": weight, "c": torch.ones(3), "n": torch.ones(1, dtype=torch.int)}, torch.bfloat16
    )
    assert state["a"] is state["b"]
    assert state["a"] is not state["c"]
    assert [state[name].dtype for name in "abcn"] == [torch.bfloat16] * 3 + [torch.int]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train_policy", "train_ppm"])
def test_a_checkpoint_in_bfloat16_is_the_rounded_one_of_float32(tmp_path: Path, stage: str) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        workspace = new_workspace(tmp_path / dtype, {"tie_word_embeddings": True, "markers": True}, storedDtype=dtype)
        folder = trained(workspace, stage, workspace.folder / "base" if stage == "train_ppm" else None)
        assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
        found[dtype] = weights(folder)
    assert found["float32"].keys() == found["bfloat16"].keys()
    for name, weight in found["bfloat16"].items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, found["float32"][name].bfloat16()), name


@pytest.mark.slow
def test_gradient_checkpointing_and_the_implementation_of_attention_change_no_result(tmp_path: Path) -> None:
    plain = weights(trained(new_workspace(tmp_path / "plain")))
    checkpointed = weights(trained(new_workspace(tmp_path / "checkpointed", gradientCheckpointing=True)))
    assert all(torch.equal(plain[name], weight) for name, weight in checkpointed.items())
    eager = trained(new_workspace(tmp_path / "eager", attention="eager"))
    assert all(torch.allclose(plain[name], weight, atol=1e-4) for name, weight in weights(eager).items())
    assert "attn_implementation" not in (eager / "config.json").read_text()


def test_flash_attention_without_its_package_or_a_gpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, attention="flash_attention_2", precision="bfloat16")
    code, result = workspace.run("train_policy", {"select": selected(workspace)})
    assert code == 2
    assert "attention flash_attention_2 needs" in result["error"]
    assert "or use attention: sdpa" in result["error"]


@pytest.mark.parametrize("tied", [pytest.param(False, marks=pytest.mark.slow), True])
def test_lora_trains_the_linear_layers_and_the_markers_and_stores_a_plain_folder(tmp_path: Path, tied: bool) -> None:
    workspace = new_workspace(tmp_path, {"tie_word_embeddings": tied}, lora=LORA)
    workspace.document["spec"]["trainPolicy"]["markers"] = "tokens"
    folder = trained(workspace)
    assert not list(folder.glob("adapter*"))
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    base: Any = AutoModelForCausalLM.from_pretrained(workspace.folder / "base")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert list(weights(folder)) == list(weights(workspace.folder / "base"))
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(model.model.norm.weight, base.model.norm.weight)
    markers = tokenizer.convert_tokens_to_ids(list(MARKERS))
    spelled: Any = AutoTokenizer.from_pretrained(workspace.folder / "base")
    pieces = [spelled.encode(marker, add_special_tokens=False) for marker in MARKERS]
    layers = [(model.get_input_embeddings(), base.get_input_embeddings())]
    if not tied:
        layers.append((model.get_output_embeddings(), base.get_output_embeddings()))
    for after, before in layers:
        old = before.weight
        assert torch.equal(after.weight[: len(old)], old), "the rows of old tokens are frozen"
        began = torch.stack([old[ids].mean(dim=0) for ids in pieces])
        change = (after.weight[markers] - began).abs().amax(dim=1)
        # All markers of the trajectories are trained; the output embeddings learn of every token.
        assert (change > 1e-4).sum() >= 3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lora_trains_the_head_of_a_ppm_and_stores_a_plain_classifier(tmp_path: Path, precision: str) -> None:
    workspace = new_workspace(tmp_path, {"markers": True}, lora=LORA, precision=precision, epochs=4, learningRate=1e-2)
    folder = trained(workspace, "train_ppm", workspace.folder / "base")
    figures = workspace.outcome()["metrics"]
    assert figures["pair_accuracy"] == 1.0
    assert figures["head_mean_slope"] > 0.99
    assert not list(folder.glob("adapter*"))
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto")
    assert model.dtype == getattr(torch, precision)
    assert model.score.weight.abs().max() > 1e-4, "the head has left its start near 0"
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


def test_a_layer_for_lora_that_the_model_does_not_have_is_refused_with_those_it_has(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, lora={"targetModules": ["q_proj", "c_attn"]})
    code, result = workspace.run("train_policy", {"select": selected(workspace)})
    assert code == 2
    assert "lora.targetModules: the model has no linear layer c_attn; it has q_proj, k_proj" in result["error"]


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({"lora": {}, "fsdp": True}, "lora and fsdp exclude each other"),
        ({"attention": "flash_attention_2"}, "attention flash_attention_2 needs precision: bfloat16"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(training: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrainingSpec(**training)

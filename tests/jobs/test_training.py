"""The two training stages, as processes, with tiny random models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rstar.rounds.observed import ManifestRef
from rstar.store.digests import checkpoint_digest
from rstar.trajectory import MARKERS
from tests.support.jobs.stage_workspace import FAST, StageWorkspace, examples, make_base, pairs

TRAINING = {"epochs": 2, "batchSize": 8, "learningRate": 1e-3, "saveSteps": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder)
    return folder


def new_workspace(folder: Path, base: Path, **training: Any) -> tuple[StageWorkspace, ManifestRef]:
    settings = {**TRAINING, **training}
    workspace = StageWorkspace(
        folder, baseModel=str(base), trainPolicy=settings, trainPpm={**settings, "scoreScale": 4}
    )
    held_out = [(pair, "held_out") for pair in (*pairs(4), *pairs(2, final=True))]
    return workspace, workspace.selected(examples(20), [(pair, "train") for pair in pairs(20)] + held_out)


def checkpoint(workspace: StageWorkspace) -> Path:
    return workspace.store.path(f"{workspace.ref().prefix}/checkpoint")


def test_a_policy_and_its_ppm_are_trained_and_load_without_this_project(tmp_path: Path, base: Path) -> None:
    workspace, select = new_workspace(tmp_path, base)
    code, result = workspace.run("train_policy", {"select": select})
    assert code == 0
    assert result["metrics"] | {"loss": 0} == {
        "examples": 20,
        "trained_examples": 40,
        "epochs": 2.0,
        "steps": 5,
        "train_tokens": result["metrics"]["train_tokens"],
        "loss": 0,
        "dropped_too_long": 0,
        "markers_added": len(MARKERS),
    }
    progress = json.loads(workspace.progress.read_text())
    assert (progress["done"], progress["total"]) == (5, 5)
    assert progress["tokens_per_second"] > 0
    assert progress["loss"] > 0
    policy, folder = workspace.ref(), checkpoint(workspace)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(len(tokenizer.encode(marker, add_special_tokens=False)) == 1 for marker in MARKERS)
    assert model.config.use_cache
    assert model(torch.tensor([[1, 2, 3]])).logits.shape[-1] >= len(tokenizer)
    assert not list(workspace.store.list(f"{policy.prefix}/resume/"))

    code, result = workspace.run("train_ppm", {"select": select, "policy": policy})
    assert code == 0
    figures = result["metrics"]
    assert (figures["pairs_held_out"], figures["pairs_held_out_non_final"]) == (6, 4)
    assert 0 <= figures["pair_accuracy_before"] <= 1
    assert figures["pair_accuracy"] == figures["pair_accuracy_with_final"] == 1.0
    ppm = AutoModelForSequenceClassification.from_pretrained(checkpoint(workspace))
    assert ppm.config.num_labels == 1


def test_the_same_seed_gives_the_same_manifest_and_a_done_stage_is_not_repeated(tmp_path: Path, base: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        workspace, select = new_workspace(tmp_path / name, base)
        workspace.run("train_policy", {"select": select})
        digests.append(workspace.ref())
    assert digests[0] == digests[1]
    before = checkpoint(workspace).joinpath("model.safetensors").stat().st_mtime_ns
    workspace.result.unlink()
    code, _ = workspace.run("train_policy", {"select": select})
    assert (code, workspace.ref()) == (0, digests[1])
    assert checkpoint(workspace).joinpath("model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("stage", ["train_policy", "train_ppm"])
def test_after_sigkill_training_resumes_and_gives_the_same_checkpoint(tmp_path: Path, base: Path, stage: str) -> None:
    digests = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        workspace, select = new_workspace(tmp_path / name, base)
        workspace.document["spec"]["trainPolicy" if stage == "train_policy" else "trainPpm"] |= {
            "epochs": 24,
            "saveSteps": 5,
        }
        inputs = {"select": select}
        if stage == "train_ppm":
            assert workspace.run("train_policy", inputs)[0] == 0
            inputs["policy"] = workspace.ref()
        if name == "killed":
            process = workspace.start(stage, inputs)
            place = f"rounds/r1/{stage.replace('_', '-')}/"
            while not any(key.endswith("resume/latest.json") for key in workspace.store.list(place)):
                assert process.is_alive()
            process.kill()
            process.join()
            assert not workspace.result.exists()
        code, result = workspace.run(stage, inputs)
        assert (code, result["metrics"]["steps"]) == (0, 60)
        digests.append(checkpoint_digest(checkpoint(workspace)))
    assert digests[0] == digests[1]


def test_sigterm_saves_a_checkpoint_and_exits_with_143(tmp_path: Path, base: Path) -> None:
    workspace, select = new_workspace(tmp_path, base, epochs=200, saveSteps=100_000)
    process = workspace.start("train_policy", {"select": select})
    while not workspace.progress.exists():
        assert process.is_alive()
    process.terminate()
    process.join(60)
    assert process.exitcode == 143
    assert workspace.outcome()["exit_code"] == 143
    assert any(key.endswith("resume/latest.json") for key in workspace.store.list("rounds/r1/train-policy/"))


def test_two_processes_under_torchrun_shard_the_model_and_store_one_complete_checkpoint(
    tmp_path: Path, base: Path
) -> None:
    workspace, select = new_workspace(tmp_path, base, fsdp=True, processesPerNode=2, epochs=1)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rstar_jobs.train_policy"]
    done = subprocess.run(
        [sys.executable, *launcher, *workspace.arguments({"select": select})],
        env={**os.environ, **FAST},
        stderr=subprocess.PIPE,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert workspace.outcome()["metrics"]["steps"] == 3
    model = AutoModelForCausalLM.from_pretrained(checkpoint(workspace))
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


@pytest.mark.parametrize(
    ("stage", "training", "complaint"),
    [
        ("train_policy", {"maxLength": 8}, "all 20 trajectories are longer than 8 tokens"),
        ("train_policy", {"microBatchSize": 3}, "batchSize 8 is not divisible by microBatchSize 3"),
        ("train_policy", {"learningRat": 1}, "unknown key; did you mean learningRate"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, base: Path, stage: str, training: dict[str, Any], complaint: str
) -> None:
    workspace, select = new_workspace(tmp_path, base)
    workspace.document["spec"]["trainPolicy"] |= training
    code, result = workspace.run(stage, {"select": select})
    assert (code, result["exit_code"]) == (2, 2)
    assert complaint in result["error"]


def test_without_data_or_with_a_changed_input_training_is_refused(tmp_path: Path, base: Path) -> None:
    workspace = StageWorkspace(tmp_path, baseModel=str(base))
    empty = workspace.selected([], [])
    assert "no trajectory to imitate" in workspace.run("train_policy", {"select": empty})[1]["error"]
    assert "input select is missing" in workspace.run("train_policy", {})[1]["error"]
    wrong = ManifestRef(empty.key, "0" * 64)
    code, result = workspace.run("train_policy", {"select": wrong})
    assert code == 2
    assert "changed by hand" in result["error"]
    workspace.document["spec"]["baseModel"] = str(tmp_path / "none")
    assert "no such file or folder" in workspace.run("train_policy", {"select": empty})[1]["error"]

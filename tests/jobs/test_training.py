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
from tests.support.jobs.stage_world import FAST, World, examples, make_base, pairs

TRAINING = {"epochs": 2, "batchSize": 8, "learningRate": 1e-3, "saveSteps": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder)
    return folder


def world(folder: Path, base: Path, **training: Any) -> tuple[World, ManifestRef]:
    settings = {**TRAINING, **training}
    made = World(folder, baseModel=str(base), trainPolicy=settings, trainPpm={**settings, "scoreScale": 4})
    held_out = [(pair, "held_out") for pair in (*pairs(4), *pairs(2, final=True))]
    return made, made.selected(examples(20), [(pair, "train") for pair in pairs(20)] + held_out)


def checkpoint(made: World) -> Path:
    return made.store.path(f"{made.ref().prefix}/checkpoint")


def test_a_policy_and_its_ppm_are_trained_and_load_without_this_project(tmp_path: Path, base: Path) -> None:
    made, select = world(tmp_path, base)
    code, result = made.run("train_policy", {"select": select})
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
    progress = json.loads(made.progress.read_text())
    assert (progress["done"], progress["total"]) == (5, 5)
    assert progress["tokens_per_second"] > 0
    assert progress["loss"] > 0
    policy, folder = made.ref(), checkpoint(made)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(len(tokenizer.encode(marker, add_special_tokens=False)) == 1 for marker in MARKERS)
    assert model.config.use_cache
    assert model(torch.tensor([[1, 2, 3]])).logits.shape[-1] >= len(tokenizer)
    assert not list(made.store.list(f"{policy.prefix}/resume/"))

    code, result = made.run("train_ppm", {"select": select, "policy": policy})
    assert code == 0
    figures = result["metrics"]
    assert (figures["pairs_held_out"], figures["pairs_held_out_non_final"]) == (6, 4)
    assert 0 <= figures["pair_accuracy_before"] <= 1
    assert figures["pair_accuracy"] == figures["pair_accuracy_with_final"] == 1.0
    ppm = AutoModelForSequenceClassification.from_pretrained(checkpoint(made))
    assert ppm.config.num_labels == 1


def test_the_same_seed_gives_the_same_manifest_and_a_done_stage_is_not_repeated(tmp_path: Path, base: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made, select = world(tmp_path / name, base)
        made.run("train_policy", {"select": select})
        digests.append(made.ref())
    assert digests[0] == digests[1]
    before = checkpoint(made).joinpath("model.safetensors").stat().st_mtime_ns
    made.result.unlink()
    code, _ = made.run("train_policy", {"select": select})
    assert (code, made.ref()) == (0, digests[1])
    assert checkpoint(made).joinpath("model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("stage", ["train_policy", "train_ppm"])
def test_after_sigkill_training_resumes_and_gives_the_same_checkpoint(tmp_path: Path, base: Path, stage: str) -> None:
    digests = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        made, select = world(tmp_path / name, base)
        made.document["spec"]["trainPolicy" if stage == "train_policy" else "trainPpm"] |= {
            "epochs": 24,
            "saveSteps": 5,
        }
        inputs = {"select": select}
        if stage == "train_ppm":
            assert made.run("train_policy", inputs)[0] == 0
            inputs["policy"] = made.ref()
        if name == "killed":
            process = made.start(stage, inputs)
            place = f"rounds/r1/{stage.replace('_', '-')}/"
            while not any(key.endswith("resume/latest.json") for key in made.store.list(place)):
                assert process.is_alive()
            process.kill()
            process.join()
            assert not made.result.exists()
        code, result = made.run(stage, inputs)
        assert (code, result["metrics"]["steps"]) == (0, 60)
        digests.append(checkpoint_digest(checkpoint(made)))
    assert digests[0] == digests[1]


def test_sigterm_saves_a_checkpoint_and_exits_with_143(tmp_path: Path, base: Path) -> None:
    made, select = world(tmp_path, base, epochs=200, saveSteps=100_000)
    process = made.start("train_policy", {"select": select})
    while not made.progress.exists():
        assert process.is_alive()
    process.terminate()
    process.join(60)
    assert process.exitcode == 143
    assert made.outcome()["exit_code"] == 143
    assert any(key.endswith("resume/latest.json") for key in made.store.list("rounds/r1/train-policy/"))


def test_two_processes_under_torchrun_shard_the_model_and_store_one_complete_checkpoint(
    tmp_path: Path, base: Path
) -> None:
    made, select = world(tmp_path, base, fsdp=True, processesPerNode=2, epochs=1)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rstar_jobs.train_policy"]
    done = subprocess.run(
        [sys.executable, *launcher, *made.arguments({"select": select})],
        env={**os.environ, **FAST},
        stderr=subprocess.PIPE,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert made.outcome()["metrics"]["steps"] == 3
    model = AutoModelForCausalLM.from_pretrained(checkpoint(made))
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
    made, select = world(tmp_path, base)
    made.document["spec"]["trainPolicy"] |= training
    code, result = made.run(stage, {"select": select})
    assert (code, result["exit_code"]) == (2, 2)
    assert complaint in result["error"]


def test_without_data_or_with_a_changed_input_training_is_refused(tmp_path: Path, base: Path) -> None:
    made = World(tmp_path, baseModel=str(base))
    empty = made.selected([], [])
    assert "no trajectory to imitate" in made.run("train_policy", {"select": empty})[1]["error"]
    assert "input select is missing" in made.run("train_policy", {})[1]["error"]
    wrong = ManifestRef(empty.key, "0" * 64)
    code, result = made.run("train_policy", {"select": wrong})
    assert code == 2
    assert "changed by hand" in result["error"]
    made.document["spec"]["baseModel"] = str(tmp_path / "none")
    assert "no such file or folder" in made.run("train_policy", {"select": empty})[1]["error"]

"""FSDP with two processes on CPUs: sharded for real, read by one process, stored as one complete checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rstar.rounds.observed import ManifestRef
from rstar.store.digests import checkpoint_digest
from tests.support.jobs import sharded_on_cpu
from tests.support.jobs.stage_workspace import FAST, StageWorkspace, examples, make_base, pairs

TRAINING = {"epochs": 1, "batchSize": 8, "learningRate": 1e-3, "saveSteps": 2}
MIB = 2**20


def new_workspace(folder: Path, base: Path, **training: Any) -> StageWorkspace:
    folder.mkdir(exist_ok=True)
    settings = {**TRAINING, **training}
    return StageWorkspace(folder, baseModel=str(base), trainPolicy=settings, trainPpm={**settings, "scoreScale": 4})


def inputs_of(workspace: StageWorkspace, stage: str, base: Path, count: int = 20) -> dict[str, ManifestRef]:
    held_out = [(pair, "held_out") for pair in pairs(4)]
    inputs = {"select": workspace.selected(examples(count), [(pair, "train") for pair in pairs(count)] + held_out)}
    return inputs if stage == "train_policy" else {**inputs, "policy": workspace.trained("train-policy", base)}


def start(workspace: StageWorkspace, stage: str, inputs: dict[str, ManifestRef]) -> subprocess.Popen[str]:
    """Start two processes that train, in a process group of their own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", sharded_on_cpu.__file__, stage]
    return subprocess.Popen(
        [sys.executable, *launcher, *workspace.arguments(inputs)],
        env={**os.environ, **FAST, "MALLOC_MMAP_THRESHOLD_": "131072"},  # freed weights leave the process at once
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def sharded(workspace: StageWorkspace, stage: str, inputs: dict[str, ManifestRef]) -> dict[tuple[int, str], int]:
    """Train with two processes; return the peak of memory in MiB by rank and point."""
    process = start(workspace, stage, inputs)
    out, err = process.communicate(timeout=230)
    assert process.returncode == 0, err
    lines = [line.split() for line in out.splitlines() if line[:2] in {"0 ", "1 "}]
    return {(int(rank), point): int(mib) for rank, point, mib in lines}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train_policy", "train_ppm"])
def test_two_processes_train_shards_to_the_checkpoint_of_one_process(tmp_path: Path, stage: str) -> None:
    make_base(tmp_path / "base", markers=stage == "train_ppm", tie_word_embeddings=True)
    stored = []
    for name in ("sharded", "whole"):
        training = {"fsdp": True, "processesPerNode": 2, "gradientCheckpointing": True} if name == "sharded" else {}
        workspace = new_workspace(tmp_path / name, tmp_path / "base", **training)
        inputs = inputs_of(workspace, stage, tmp_path / "base")
        if name == "sharded":
            sharded(workspace, stage, inputs)
        else:
            assert workspace.run(stage, inputs)[0] == 0
        assert workspace.outcome()["metrics"]["steps"] == 3
        folder = workspace.store.path(f"{workspace.ref().prefix}/checkpoint")
        auto = AutoModelForCausalLM if stage == "train_policy" else AutoModelForSequenceClassification
        model: Any = auto.from_pretrained(folder)
        assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
        stored.append(load_file(folder / "model.safetensors"))
    assert stored[0].keys() == stored[1].keys()
    # The processes add the same gradients in another order, and AdamW's first steps have the size of the learning rate.
    assert all(torch.allclose(stored[0][name], weight, atol=5e-3) for name, weight in stored[1].items())


@pytest.mark.slow
@pytest.mark.long
def test_after_sigkill_sharded_training_resumes_and_gives_the_same_checkpoint(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    digests = []
    for name in ("whole", "killed"):
        workspace = new_workspace(tmp_path / name, tmp_path / "base", fsdp=True, processesPerNode=2, epochs=8)
        inputs = inputs_of(workspace, "train_policy", tmp_path / "base")
        if name == "killed":
            process = start(workspace, "train_policy", inputs)
            while not any(
                key.endswith("resume/latest.json") for key in workspace.store.list("rounds/r1/train-policy/")
            ):
                assert process.poll() is None
            children = [
                int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ]
            for pid in (*children, process.pid):
                os.kill(pid, signal.SIGKILL)
            process.communicate()
            assert not workspace.result.exists()
        sharded(workspace, "train_policy", inputs)
        assert workspace.outcome()["metrics"]["steps"] == 20
        digests.append(checkpoint_digest(workspace.store.path(f"{workspace.ref().prefix}/checkpoint")))
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.long
def test_one_process_reads_the_weights_and_the_others_keep_their_shard(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3, "num_attention_heads": 8}
    make_base(tmp_path / "base", markers=True, **sizes)
    half: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "base")
    model_mib = 4 * half.num_parameters() / MIB
    largest_mib = 4 * max(weight.numel() for weight in half.parameters()) / MIB
    workspace = new_workspace(tmp_path, tmp_path / "base", fsdp=True, processesPerNode=2, batchSize=2)
    peaks = sharded(workspace, "train_policy", inputs_of(workspace, "train_policy", tmp_path / "base", count=2))
    assert peaks[0, "loaded"] - peaks[0, "start"] > model_mib
    assert peaks[1, "loaded"] - peaks[1, "start"] < model_mib / 4
    assert peaks[1, "sharded"] - peaks[1, "start"] < model_mib / 2 + 3 * largest_mib

"""Both trainings by the code of the stages: bfloat16, gradient checkpointing, FSDP with one process.

Each check trains on the same few sequences, so the loss must fall, and opens what it stored in the engine that serves it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import rstar_jobs.training
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from rstar_jobs.batches import ExampleCollator, PairCollator
from rstar_jobs.checkpoints import length_limit, load, trajectory_tokenizer
from rstar_jobs.encoded import ExampleData, PairData
from rstar_jobs.preference import pairwise_trainer
from rstar_jobs.preference_head import start_head
from rstar_jobs.progress import Progress
from rstar_jobs.resume import ResumeStore
from rstar_jobs.training import Trained, TrainingData, train
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Trainer, TrainingArguments

from benchmarks.gpu_check.models import policy_folder, real_sizes, search_states
from benchmarks.gpu_check.runner import Figures, Setting
from rstar.interfaces import Sampling, State
from rstar.rounds.observed import Stage
from rstar.rounds.stage import StageRun
from rstar.rounds.training_spec import PreferenceTrainingSpec, TrainingSpec
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.folder_store import FolderStore
from rstar.trajectory import END_OF_CODE, END_OF_STEP


def sft_bfloat16(setting: Setting) -> Figures:
    """Train the policy in mixed precision."""
    return _sft(setting)


def sft_checkpointing(setting: Setting) -> Figures:
    """Train the policy with gradient checkpointing."""
    return _sft(setting, gradient_checkpointing=True)


def sft_fsdp(setting: Setting) -> Figures:
    """Train the policy with FSDP, in a process group of this process alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, group))
        # The stage shards from two processes on, and one GPU has one; all else is the stage's own code.
        stack.enter_context(patch.object(rstar_jobs.training, "TrainingArguments", _sharded_arguments))
        if setting.device == "cpu":
            # On a CPU accelerate uses DDP and not FSDP. The two patches make it treat the CPU as another device.
            torch.distributed.init_process_group("gloo")
            gloo = ("gloo", DistributedType.MULTI_GPU)
            stack.enter_context(patch.object(PartialState, "_prepare_backend", lambda *_, **__: gloo))
            stack.enter_context(patch.object(PartialState, "set_device", _use_cpu))
        return _sft(setting, sharded=True)


def _sharded_arguments(**options: Any) -> TrainingArguments:
    return TrainingArguments(**{**options, "fsdp": True})


def _use_cpu(state: Any) -> None:
    state.device = torch.device("cpu")


def _sft(setting: Setting, *, sharded: bool = False, **changes: Any) -> Figures:
    steps = 1 if setting.quick else 20
    examples = [
        SftExample(state.problem_id, state.question, (*state.steps, f"\nprint(y){END_OF_CODE}"), 1.0)
        for state in search_states(4 if setting.quick else 16, steps)
    ]
    base = policy_folder(setting, "policy-real", real_sizes(setting))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = trained_policy(base, examples, _spec(TrainingSpec, setting, **changes), Path(folder))
        seconds = time.perf_counter() - began
        if sharded and not all(isinstance(weight, DTensor) for weight in trained.model.parameters()):
            raise AssertionError("the parameters are not sharded: accelerate did not use FSDP")
        kind = json.loads((Path(folder) / "config.json").read_text())["architectures"]
        if kind != ["Qwen2ForCausalLM"]:
            raise AssertionError(f"the stored model is of the architecture {kind}: other programs cannot load it")
        asyncio.run(_propose_once(Path(folder), setting.device))
    return _figures(trained, seconds)


async def _propose_once(folder: Path, device: str) -> None:
    async with TransformersPolicy.load(folder, device=device, dtype="bfloat16") as policy:
        await policy.propose(State("p", "1 + 1?"), 2, Sampling(max_new_tokens=4), 0)


def ppm_training_bfloat16(setting: Setting) -> Figures:
    """Train a PPM on pairs in mixed precision."""
    right, wrong = (
        (Continuation((f"\nassert {text}{END_OF_STEP}",), q, terminal=False),)
        for text, q in (("y == 60", 1.0), ("0", -1.0))
    )
    pairs = [
        PairGroup(state.problem_id, state.question, state.steps, right, wrong, ((0, 0),))
        for state in search_states(4 if setting.quick else 16, 1 if setting.quick else 10)
    ]
    policy = policy_folder(setting, "policy-real", real_sizes(setting))
    spec = _spec(PreferenceTrainingSpec, setting, score_scale=4.0)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = trained_ppm(policy, pairs, spec, Path(folder))
        seconds = time.perf_counter() - began
        asyncio.run(_score_once(Path(folder), setting.device))
    return _figures(trained, seconds)


async def _score_once(folder: Path, device: str) -> None:
    async with TransformersPreferenceModel.load(folder, device=device, dtype="bfloat16") as ppm:
        await ppm.score(State("p", "1 + 1?"), ["2"])


def trained_policy(base: Path, examples: Sequence[SftExample], spec: TrainingSpec, folder: Path) -> Trained:
    """Train ``base`` on ``examples`` by the code of the stage train-policy, and store the model in ``folder``."""
    model, words = load(AutoModelForCausalLM, base, spec)
    with tempfile.TemporaryDirectory() as files:
        encoded = ExampleData(trajectory_tokenizer(words), examples, length_limit(model, spec.max_length), Path(files))
        data = TrainingData(encoded, encoded.lengths, ExampleCollator(words.pad_token_id))
        return _stored(_train(Trainer, model, data, spec, Stage.TRAIN_POLICY), words, folder)


def trained_ppm(policy: Path, pairs: Sequence[PairGroup], spec: PreferenceTrainingSpec, folder: Path) -> Trained:
    """Train a PPM from ``policy`` on ``pairs`` by the code of the stage train-ppm, and store the model in ``folder``."""
    model, words = load(AutoModelForSequenceClassification, policy, spec, num_labels=1)
    start_head(model, 0)
    model.config.pad_token_id = words.pad_token_id
    with tempfile.TemporaryDirectory() as files:
        encoded = PairData(trajectory_tokenizer(words), pairs, length_limit(model, spec.max_length), Path(files))
        data = TrainingData(encoded, encoded.lengths, PairCollator(words.pad_token_id))
        return _stored(_train(pairwise_trainer(spec.score_scale), model, data, spec, Stage.TRAIN_PPM), words, folder)


def _train(trainer: type[Trainer], model: Any, data: TrainingData, spec: TrainingSpec, stage: Stage) -> Trained:
    with tempfile.TemporaryDirectory() as store:
        run = StageRun(FolderStore(Path(store)), "gpu-check", stage, 0, {})
        return train(trainer, model, data, spec, seed=0, resume=ResumeStore(run), progress=Progress(None, stage))


def _stored(trained: Trained, words: Any, folder: Path) -> Trained:
    trained.model.save_pretrained(folder, state_dict=trained.state)
    words.save_pretrained(folder)
    return trained


def _spec(kind: Any, setting: Setting, **changes: Any) -> Any:
    quick = setting.quick
    return kind(
        epochs=4 if quick else 20,
        batch_size=4 if quick else 16,
        micro_batch_size=2,  # with the logits of 150,000 words, more would not fit on a GPU of 24 GB
        learning_rate=1e-3 if quick else 1e-4,
        warmup_ratio=0,
        precision="bfloat16",
        **changes,
    )


def _figures(trained: Trained, seconds: float) -> Figures:
    losses = [entry["loss"] for entry in trained.log if "loss" in entry]
    if not losses[-1] < losses[0]:
        raise AssertionError(f"the loss did not fall: {losses[0]:.4g} at first, {losses[-1]:.4g} at the end")
    return {
        "tokens_per_s": trained.metrics["train_tokens"] / seconds,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "steps": trained.metrics["steps"],
    }

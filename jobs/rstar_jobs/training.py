"""One training run: the Trainer of transformers with a fixed data order, checkpoints in the store, and SIGTERM.

Covered: torchrun on one or many nodes, FSDP, mixed precision, a restart from the last checkpoint with the same data
order, SIGTERM (save, then end). Not covered: data loading by worker processes.
"""

from __future__ import annotations

import math
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from torch.utils.data import Subset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from rstar.rounds.training_spec import TrainingSpec
from rstar_jobs.errors import TerminatedError
from rstar_jobs.lora import merged
from rstar_jobs.processes import micro_batch_size, process_count
from rstar_jobs.progress import Progress
from rstar_jobs.resume import ResumeStore
from rstar_jobs.sharded_loading import is_sharded
from rstar_jobs.stored_dtype import in_dtype, round_weights, stored_dtype
from rstar_jobs.training_order import training_order


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Encoded examples and their lengths in tokens; ``collator`` makes a batch of examples."""

    examples: Sequence[Any]
    lengths: Sequence[int]
    collator: Any


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, its weights rounded to the format ``dtype`` in which it is stored.

    ``state`` is the whole model's on process 0, in this format, and may be empty in the others.
    ``log``: what the trainer logged from the first step on, in this attempt and in those that it resumed.
    """

    model: Any
    state: dict[str, torch.Tensor]
    dtype: torch.dtype
    metrics: dict[str, Any]
    log: Sequence[Mapping[str, Any]] = ()


def train(
    trainer_class: type[Trainer],
    model: Any,
    data: TrainingData,
    spec: TrainingSpec,
    *,
    seed: int,
    resume: ResumeStore,
    progress: Progress,
) -> Trained:
    """Train ``model`` in place; LoRA's additions are merged into its weights. Raises ``TerminatedError`` after SIGTERM, with a checkpoint in ``resume``."""
    world = process_count()
    order = training_order(data.lengths, spec.batch_size, spec.epochs, spec.max_train_tokens, seed)
    with tempfile.TemporaryDirectory(prefix="rstar-train-") as work:
        arguments = _arguments(spec, Path(work), micro_batch_size(spec, world), world, seed, len(order))
        callback = _Callback(resume, progress, _tokens_by_step(data.lengths, order, spec.batch_size))
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=Subset(data.examples, order),  # type: ignore[arg-type]
            data_collator=data.collator,
            callbacks=[callback],
        )
        start = resume.load(Path(work))
        if start is not None:
            structlog.get_logger().info("training resumes", checkpoint=start.name)
        trainer.remove_callback(PrinterCallback)
        handler = signal.signal(signal.SIGTERM, callback.request_end)
        try:
            outcome = trainer.train(resume_from_checkpoint=None if start is None else str(start))
        finally:
            signal.signal(signal.SIGTERM, handler)
        if callback.ended_early:
            raise TerminatedError(f"ended by SIGTERM after step {trainer.state.global_step}; its checkpoint is stored")
    metrics = {
        "examples": len(data.examples),
        "trained_examples": len(order),
        "epochs": round(len(order) / len(data.examples), 3),
        "steps": trainer.state.global_step,
        "train_tokens": sum(data.lengths[i] for i in order),
        "loss": round(outcome.training_loss, 5),
    }
    dtype = stored_dtype(spec, on_gpu=torch.cuda.is_available())
    whole = merged(trainer.model, dtype)
    round_weights(whole, dtype)
    whole.config.use_cache = True  # off during training, where keys and values would only take memory
    state = trainer.accelerator.get_state_dict(whole)
    # Gathered from shards, a tied weight has a copy under each of its names, and all copies would be stored.
    state |= {name: state[source] for name, source in whole.all_tied_weights_keys.items() if source in state}
    state = in_dtype(state, dtype)
    return Trained(whole, state, dtype, metrics, trainer.state.log_history)


def _arguments(spec: TrainingSpec, work: Path, micro: int, world: int, seed: int, examples: int) -> TrainingArguments:
    steps = math.ceil(examples / spec.batch_size)
    sharded = is_sharded(spec)
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=spec.batch_size // (micro * world),
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=spec.warmup_ratio,
        weight_decay=spec.weight_decay,
        train_sampling_strategy="sequential",
        seed=seed % 2**32,
        bf16=spec.precision == "bfloat16",
        fsdp=True if sharded else None,  # type: ignore[arg-type]
        fsdp_config={"cpu_ram_efficient_loading": True} if sharded else None,
        gradient_checkpointing=spec.gradient_checkpointing or None,
        gradient_checkpointing_kwargs={"use_reentrant": False} if spec.gradient_checkpointing else None,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="steps",
        save_steps=spec.save_steps,
        save_total_limit=1,
        logging_strategy="steps",
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    # One process trains on one device: with more in sight the Trainer would multiply the batch by their number.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _tokens_by_step(lengths: Sequence[int], order: Sequence[int], batch_size: int) -> list[int]:
    """Return the tokens trained on after step 0, 1, 2, ..."""
    totals = [0]
    for start in range(0, len(order), batch_size):
        totals.append(totals[-1] + sum(lengths[i] for i in order[start : start + batch_size]))
    return totals


class _Callback(TrainerCallback):
    """Stores checkpoints, reports progress, and ends the run after SIGTERM, in all processes at the same step."""

    def __init__(self, resume: ResumeStore, progress: Progress, tokens: Sequence[int]) -> None:
        self._resume = resume
        self._progress = progress
        self._tokens = tokens
        self._first, self._started = 0, time.monotonic()
        self._loss: float | None = None
        self._end_requested = False
        self.ended_early = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the first step of this attempt."""
        self._first, self._started = state.global_step, time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the loss, and log what the trainer reports: loss, gradient norm, learning rate."""
        self._loss = (logs or {}).get("loss", self._loss)
        if state.is_world_process_zero and "loss" in (logs or {}):
            figures = {name: float(value) for name, value in (logs or {}).items() if name != "epoch"}
            if (speed := self._speed(state.global_step)) is not None:
                figures["tokens_per_second"] = speed
            self._progress.track(state.global_step, **figures)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report, and save and stop when any process has received SIGTERM."""
        self._report(state)
        if self._any_process_ends(args) and state.global_step < state.max_steps:
            self.ended_early = True
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Store the checkpoint."""
        if state.is_world_process_zero and (self.ended_early or state.global_step < state.max_steps):
            self._resume.save(Path(args.output_dir or "") / f"checkpoint-{state.global_step}", state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the end."""
        self._report(state, last=True)

    def request_end(self, *_: object) -> None:
        """End after the current step (a signal handler)."""
        self._end_requested = True

    def _any_process_ends(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self._end_requested
        requested = torch.tensor(int(self._end_requested), device=args.device)
        torch.distributed.all_reduce(requested, op=torch.distributed.ReduceOp.MAX)
        return bool(requested.item())

    def _speed(self, step: int) -> float | None:
        """Return the tokens per second of this attempt; None before its first step."""
        if step <= self._first:
            return None
        seconds = max(time.monotonic() - self._started, 1e-9)
        return (self._tokens[step] - self._tokens[self._first]) / seconds

    def _report(self, state: TrainerState, *, last: bool = False) -> None:
        step, seconds = state.global_step, max(time.monotonic() - self._started, 1e-9)
        figures: dict[str, float] = {"tokens": self._tokens[step]}
        if step > self._first:
            figures["tokens_per_second"] = self._speed(step) or 0.0
            figures["eta_seconds"] = seconds / (step - self._first) * (state.max_steps - step)
        if self._loss is not None:
            figures["loss"] = self._loss
        self._progress.report(step, state.max_steps, last=last, **figures)

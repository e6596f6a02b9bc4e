"""Trains the base model of the example: a Llama of 0.7 million parameters, on mostly random plays.

    python examples/game24/pretrain.py --out models/base --plays 60000 --exclude held-out.jsonl

It takes the place of the paper's bootstrap LLM: it knows the rules and the grammar, and wins a game now and then. Games
of the ``--exclude`` files are never shown. The result is a plain Hugging Face folder, moved into place when complete.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from plays import TARGET, random_plays, render_play
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rstar_jobs.batches import ExampleCollator
from rstar_jobs.encoded import EncodedExample, encode_example
from rstar_jobs.training_order import training_order
from tokenizer import build_tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from rstar.countdown import Numbers, question
from rstar.models.encoding import TrajectoryTokenizer
from rstar.selection import SftExample

BATCH = 32
HIGHEST = 10
SKILL = 0.1
"""Share of the plays in which no move makes 24 unreachable; about 9 % of all plays then end at 24."""


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    plays: Annotated[int, typer.Option(min=1, help="Number of plays.")] = 60_000,
    exclude: Annotated[list[Path] | None, typer.Option(help="JSONL files of games that are not shown.")] = None,
    sizes: Annotated[list[int], typer.Option(min=2, help="Numbers in a game, drawn evenly.")] = [3, 4, 5],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Seed of the games and the weights.")] = 0,
) -> None:
    """Train the base model of the Game of 24 example; about three minutes on two cores."""
    if out.exists():
        sys.exit(f"{out} exists; choose another --out")
    tokenizer = build_tokenizer()
    examples = demonstrations(plays, seed, sizes, _games(exclude or []), tokenizer)
    set_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=384,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    train(model, examples, int(tokenizer.pad_token_id), seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        Path(folder).chmod(0o755)
        Path(folder).rename(out)
        Path(folder).mkdir()  # for the context manager to remove
    typer.echo(f"{out}: {model.num_parameters():,} parameters, {sum(len(e.ids) for e in examples):,} tokens")


def demonstrations(
    plays: int, seed: int, sizes: list[int], excluded: set[Numbers], tokenizer: PreTrainedTokenizerFast
) -> list[EncodedExample]:
    """Return ``plays`` encoded demonstrations; the loss is on the play, not on the question."""
    encoder = TrajectoryTokenizer(tokenizer)
    return [
        encode_example(encoder, SftExample("play", question(numbers, TARGET), render_play(numbers, moves), 0.0))
        for numbers, moves in random_plays(plays, seed, sizes, HIGHEST, SKILL, excluded)
    ]


def train(model: LlamaForCausalLM, examples: list[EncodedExample], pad_id: int, seed: int) -> None:
    """Train for one epoch."""
    order = training_order([len(example.ids) for example in examples], BATCH, 1.0, None, seed)
    with tempfile.TemporaryDirectory() as work, Bar() as bar:
        Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=work,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                learning_rate=3e-3,
                lr_scheduler_type="linear",
                warmup_steps=60,
                adam_beta2=0.98,
                train_sampling_strategy="sequential",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                report_to="none",
                use_cpu=not torch.cuda.is_available(),
                remove_unused_columns=False,
                dataloader_pin_memory=torch.cuda.is_available(),
                seed=seed,
            ),
            train_dataset=[examples[i] for i in order],
            data_collator=ExampleCollator(pad_id),
            callbacks=[bar],
        ).train()


class Bar(TrainerCallback):
    """A progress bar, or without a terminal a line per quarter."""

    def __enter__(self) -> Bar:
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        self._task: TaskID = self._progress.add_task("", total=None)
        self._started = time.monotonic()
        if sys.stdout.isatty():
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Advance the bar."""
        self._progress.update(self._task, completed=state.global_step, total=state.max_steps)
        if not sys.stdout.isatty() and state.global_step % max(1, state.max_steps // 4) == 0:
            seconds = time.monotonic() - self._started
            typer.echo(f"training: batch {state.global_step} of {state.max_steps}, {seconds:.0f} s")


def _games(files: list[Path]) -> set[Numbers]:
    return {tuple(sorted(json.loads(line)["nums"])) for file in files for line in file.read_text().splitlines()}


if __name__ == "__main__":
    typer.run(main)

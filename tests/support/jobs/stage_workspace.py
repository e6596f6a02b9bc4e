"""What a test of the stage programs needs: a folder store, a tiny model, a round, and the programs as processes."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml
from rstar_jobs.program import run

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.stage import StageRun, stage_settings
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.folder_store import FolderStore
from rstar.store.tables import write_pairs, write_sft, write_trees
from rstar.trajectory import MARKERS

FAST = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}

SPAWN = multiprocessing.get_context("forkserver")
# torch and transformers take seconds to load: they are loaded once, in the server that forks the programs.
SPAWN.set_forkserver_preload(["rstar_jobs.training", "rstar_jobs.preference", "rstar_jobs.checkpoints"])


def _program(stage: str, arguments: list[str]) -> None:
    os.environ |= FAST
    tempfile.tempdir = str(Path(arguments[arguments.index("--result") + 1]).parent)  # a killed program cannot clean up
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    module = importlib.import_module(f"rstar_jobs.{stage}")
    sys.exit(run(Stage(stage.replace("_", "-")), module.work, arguments))


class StageWorkspace:
    """One round ``r1`` in ``folder`` and its stage programs; ``changes`` are merged into its spec."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")
        self.problems = folder / "problems.jsonl"
        rows = [{"id": f"p{i}", "question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(7)]
        self.problems.write_text("\n".join(json.dumps(row) for row in rows))
        self.document: dict[str, Any] = {
            "apiVersion": "rstar.dev/v1alpha1",
            "kind": "EvolutionRound",
            "metadata": {"name": "r1"},
            "spec": {
                "round": 1,
                "seed": 3,
                "baseModel": str(folder / "base"),
                "problems": {"uri": str(self.problems)},
                "verifier": "exact",
                **changes,
            },
        }
        self.result = folder / "result.json"
        self.progress = folder / "progress.json"

    @property
    def round(self) -> EvolutionRound:
        """The round, parsed."""
        return EvolutionRound.model_validate(self.document)

    def arguments(self, inputs: dict[str, ManifestRef], *more: str) -> list[str]:
        """Write the round's file and return a stage's arguments."""
        path = self.folder / "round.yaml"
        path.write_text(yaml.safe_dump(self.document))
        arguments = ["--round", str(path), "--store", str(self.store.folder), "--cache", str(self.folder / "cache")]
        for name, ref in inputs.items():
            arguments += ["--input", f"{name}={ref.key}@{ref.digest}"]
        return [*arguments, "--result", str(self.result), "--progress", str(self.progress), *more]

    def start(self, stage: str, inputs: dict[str, ManifestRef], *more: str) -> BaseProcess:
        """Start a stage as a process forked with its libraries loaded."""
        self.result.unlink(missing_ok=True)
        process = SPAWN.Process(target=_program, args=(stage, self.arguments(inputs, *more)))
        process.start()
        return process

    def run(self, stage: str, inputs: dict[str, ManifestRef], *more: str) -> tuple[int | None, dict[str, Any]]:
        """Run a stage to its end; return its exit code and its result."""
        process = self.start(stage, inputs, *more)
        process.join(120)
        return process.exitcode, self.outcome()

    def process(
        self, stage: str, inputs: dict[str, ManifestRef], *more: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a stage to its end, by its command line."""
        self.result.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"rstar_jobs.{stage}", *self.arguments(inputs, *more)]
        environment = {**os.environ, **FAST, **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def outcome(self) -> dict[str, Any]:
        """The result file's content."""
        content: dict[str, Any] = json.loads(self.result.read_text())
        return content

    def ref(self) -> ManifestRef:
        """The manifest that the last result names."""
        result = self.outcome()
        return ManifestRef(result["manifest"], result["digest"])

    def trained(self, stage: str, checkpoint: Path | None = None, **metrics: Any) -> ManifestRef:
        """Store a finished training stage, with this folder as its checkpoint or without one."""
        run = StageRun(self.store, "r1", Stage(stage), 3, stage_settings(self.round.spec, Stage(stage)))
        return run.finish([] if checkpoint is None else run.upload_folder(checkpoint, "checkpoint"), metrics)[0]

    def rolled_out(self) -> ManifestRef:
        """Store a finished rollout of one problem."""
        stage = StageRun(self.store, "r1", Stage.ROLLOUT, 3, stage_settings(self.round.spec, Stage.ROLLOUT))
        write_trees(self.folder / "shard.parquet", [(Problem("p0", "?"), SearchRecord("p0", (NodeRecord(-1),)))])
        return stage.finish([stage.upload(self.folder / "shard.parquet", "trees/00000.parquet")], {})[0]

    def selected(self, examples: list[SftExample], pairs: list[tuple[PairGroup, str]], **metrics: Any) -> ManifestRef:
        """Store a finished select stage with these tables."""
        stage = StageRun(self.store, "r1", Stage.SELECT, 3, stage_settings(self.round.spec, Stage.SELECT))
        # Two shards of each table, so that every test reads several.
        outputs = []
        for shard in (0, 1):
            write_sft(self.folder / "sft.parquet", examples[shard::2])
            write_pairs(self.folder / "pairs.parquet", pairs[shard::2])
            outputs += [
                stage.upload(self.folder / f"{name}.parquet", f"{name}/{shard:05d}.parquet")
                for name in ("sft", "pairs")
            ]
        return stage.finish(outputs, metrics)[0]


def make_base(folder: Path, *, markers: bool = False, **sizes: Any) -> None:
    """Save a tiny random Llama with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>"
    )
    if markers:
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        **sizes,
    }
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def trajectory(a: int, answer: int) -> tuple[str, ...]:
    """Return a solution in two steps."""
    return (
        f"<code>\n# Step 1: double it\nx = {a} * 2\n<end_of_step>",
        f"\nprint(x)\n<end_of_code>\n<output>{answer}<end_of_output>\n",
        f"<answer>\\boxed{{{answer}}}<end_of_answer>",
    )


def examples(count: int) -> list[SftExample]:
    """Return solved problems."""
    return [SftExample(f"p{i}", f"What is {i} + {i}?", trajectory(i, 2 * i), 1.0) for i in range(count)]


def pairs(count: int, *, final: bool = False) -> list[PairGroup]:
    """Return groups of one pair that differ in one word: right steps double, wrong ones triple."""

    def step(word: str, number: int, q: float) -> Continuation:
        return Continuation((f"<code>\n# Step 1: {word} {number}\n<end_of_step>",), q, final)

    return [
        PairGroup(f"p{i}", f"What is {i} + {i}?", (), (step("double", i, 1.0),), (step("triple", i, -0.5),), ((0, 0),))
        for i in range(count)
    ]

"""Stage 2: training data from trees (section 3.3): SFT trajectories, preference pairs, difficulty."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import SelectSpec
from rstar.seeds import derive
from rstar.selection import (
    Difficulty,
    PreferencePair,
    SftExample,
    correct_share,
    difficulty,
    preference_pairs,
    sft_examples,
)
from rstar.store.tables import read_trees, write_pairs, write_rows, write_sft
from rstar_jobs.invocation import Invocation
from rstar_jobs.program import run

DIFFICULTY = pa.schema(
    [
        ("problem_id", pa.string()),
        ("difficulty", pa.string()),
        ("correct_share", pa.float64()),
        ("trajectories", pa.int32()),
    ]
)


SFT_HELD_OUT: Final = "sft_problems_held_out"
"""Key in the metrics: problems whose trajectories are left out of the SFT data because their pairs measure the PPM."""


def split_of(problem_id: str, held_out_fraction: float) -> str:
    """Return train or held_out. It depends on the problem's id alone, so a problem has the same split in every round."""
    return "held_out" if derive(0, "split", problem_id) < held_out_fraction * 2**63 else "train"


class Selection:
    """Collects the training data, one searched problem at a time.

    A held-out problem with pairs gives no SFT examples: its pairs measure a PPM that starts from the policy, which must not
    have been trained on its solutions. One without pairs measures nothing and is used. ``holds_out`` False: nothing is
    measured, and every problem is used. ``seed`` is the round's.
    """

    def __init__(self, spec: SelectSpec, seed: int, *, holds_out: bool) -> None:
        self._spec = spec
        self._seed = seed
        self._held_out_fraction = spec.held_out_fraction if holds_out else 0.0
        self.sft_held_out = 0
        self.sft: list[SftExample] = []
        self.pairs: list[tuple[PreferencePair, str]] = []
        self.difficulty: list[dict[str, Any]] = []

    def add(self, problem: Problem, record: SearchRecord) -> None:
        """Select from one problem. A failed search without answers is left out: it does not show the difficulty."""
        if record.error and not any(True for _ in record.terminals()):
            return
        examples = sft_examples(problem, record, self._spec, seed=self._seed)
        pairs = preference_pairs(problem, record, self._spec)
        split = split_of(problem.id, self._held_out_fraction)
        if pairs and split == "held_out":
            self.sft_held_out += bool(examples)
        else:
            self.sft += examples
        self.pairs += [(pair, split) for pair in pairs]
        self.difficulty.append(
            {
                "problem_id": problem.id,
                "difficulty": str(difficulty(record)),
                "correct_share": correct_share(record),
                "trajectories": sum(1 for _ in record.terminals()),
            }
        )

    def metrics(self) -> dict[str, Any]:
        """Return the stage's metrics."""
        levels = Counter(row["difficulty"] for row in self.difficulty)
        splits = Counter((split, pair.final) for pair, split in self.pairs)
        return {
            "problems": len(self.difficulty),
            "coverage": round(1 - levels[str(Difficulty.HARD)] / max(len(self.difficulty), 1), 6),
            **{str(level): levels[str(level)] for level in Difficulty},
            "sft_examples": len(self.sft),
            "sft_problems": len({example.problem_id for example in self.sft}),
            SFT_HELD_OUT: self.sft_held_out,
            "pairs_train": splits["train", False] + splits["train", True],
            "pairs_held_out": splits["held_out", False] + splits["held_out", True],
            "pairs_final": splits["train", True] + splits["held_out", True],
        }


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Select from every shard of the rollout and store the tables."""
    manifest = invocation.load("rollout")
    stage = invocation.open_stage(["rollout"])
    if done := stage.finished():
        return done
    selection = Selection(invocation.spec.select, stage.seed, holds_out=invocation.spec.trains_ppm)
    shards = [output.path for output in manifest.outputs]
    for number, searched in enumerate(_read(invocation, manifest, shards)):
        for problem, record in searched:
            selection.add(problem, record)
        invocation.progress.report(number + 1, len(shards), last=number + 1 == len(shards))
    with tempfile.TemporaryDirectory() as folder:
        sft, pairs, levels = (Path(folder) / f"{name}.parquet" for name in ("sft", "pairs", "difficulty"))
        write_sft(sft, selection.sft)
        write_pairs(pairs, selection.pairs)
        write_rows(levels, selection.difficulty, DIFFICULTY)
        outputs = [stage.upload(path, path.name) for path in (sft, pairs, levels)]
    return stage.finish(outputs, selection.metrics())


def _read(
    invocation: Invocation, manifest: Manifest, shards: list[str]
) -> Iterator[list[tuple[Problem, SearchRecord]]]:
    for path in shards:
        with tempfile.TemporaryDirectory() as folder:
            yield read_trees(invocation.download("rollout", manifest, path, Path(folder) / "shard.parquet"))


if __name__ == "__main__":
    sys.exit(run(Stage.SELECT, work))

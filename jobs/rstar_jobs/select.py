"""Stage 2: training data from trees (section 3.3): SFT trajectories, preference pairs, difficulty.

The trees are read one shard at a time, and what is selected is stored in shards of ``SHARD_PROBLEMS`` problems: memory does
not grow with the number of problems.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import SelectSpec
from rstar.rounds.stage import StageRun
from rstar.seeds import derive
from rstar.selection import (
    Difficulty,
    PairGroup,
    SftExample,
    correct_share,
    difficulty,
    pair_groups,
    sft_examples,
)
from rstar.store.tables import read_trees, write_pairs, write_rows, write_sft
from rstar_jobs.invocation import Invocation
from rstar_jobs.program import run

SFT: Final = "sft"
PAIRS: Final = "pairs"
DIFFICULTY: Final = "difficulty"
"""The tables, each a folder of shards ``00000.parquet``, ..."""

SHARD_PROBLEMS: Final = 512
"""Searched problems of one shard: some tens of MiB while they wait, and 1,459 shards for the paper's 747,000 problems."""

SFT_HELD_OUT: Final = "sft_problems_held_out"
"""Key in the metrics: problems whose trajectories are left out of the SFT data because their pairs measure the PPM."""

_DIFFICULTY: Final = pa.schema(
    [
        ("problem_id", pa.string()),
        ("difficulty", pa.string()),
        ("correct_share", pa.float64()),
        ("trajectories", pa.int32()),
    ]
)


def split_of(problem_id: str, held_out_fraction: float) -> str:
    """Return train or held_out. It depends on the problem's id alone, so a problem has the same split in every round."""
    return "held_out" if derive(0, "split", problem_id) < held_out_fraction * 2**63 else "train"


class Selection:
    """Selects the training data, one searched problem at a time, and counts it.

    A held-out problem with pairs gives no SFT examples: its pairs measure a PPM that starts from the policy, which must not
    have been trained on its solutions. One without pairs measures nothing and is used. ``holds_out`` False: nothing is
    measured, and every problem is used. ``seed`` is the round's.

    The rows wait in ``sft``, ``pairs`` and ``difficulty`` until ``clear``.
    """

    def __init__(self, spec: SelectSpec, seed: int, *, holds_out: bool) -> None:
        self._spec = spec
        self._seed = seed
        self._held_out_fraction = spec.held_out_fraction if holds_out else 0.0
        self._counts: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self.sft: list[SftExample] = []
        self.pairs: list[tuple[PairGroup, str]] = []
        self.difficulty: list[dict[str, Any]] = []

    def add(self, problem: Problem, record: SearchRecord) -> None:
        """Select from one problem. A failed search without answers is left out: it does not show the difficulty."""
        if record.error and not any(True for _ in record.terminals()):
            return
        examples = sft_examples(problem, record, self._spec, seed=self._seed)
        groups = pair_groups(problem, record, self._spec)
        split = split_of(problem.id, self._held_out_fraction)
        if groups and split == "held_out":
            self._counts[SFT_HELD_OUT] += bool(examples)
        else:
            self.sft += examples
            self._counts["sft_examples"] += len(examples)
            self._counts["sft_problems"] += bool(examples)
        self.pairs += [(group, split) for group in groups]
        for group in groups:
            self._counts[f"pairs_{split}"] += len(group.pairs)
            self._counts["pairs_final"] += sum(group.is_final(right, wrong) for right, wrong in group.pairs)
        level = str(difficulty(record))
        self._levels[level] += 1
        self.difficulty.append(
            {
                "problem_id": problem.id,
                "difficulty": level,
                "correct_share": correct_share(record),
                "trajectories": sum(1 for _ in record.terminals()),
            }
        )

    def clear(self) -> None:
        """Forget the rows, which have been stored; the counts stay."""
        self.sft, self.pairs, self.difficulty = [], [], []

    def metrics(self) -> dict[str, Any]:
        """Return the stage's metrics."""
        problems = self._levels.total()
        names = ("sft_examples", "sft_problems", SFT_HELD_OUT, "pairs_train", "pairs_held_out", "pairs_final")
        return {
            "problems": problems,
            "coverage": round(1 - self._levels[str(Difficulty.HARD)] / max(problems, 1), 6),
            **{str(level): self._levels[str(level)] for level in Difficulty},
            **{name: self._counts[name] for name in names},
        }


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Select from every shard of the rollout and store the tables."""
    manifest = invocation.load("rollout")
    stage = invocation.open_stage(["rollout"])
    if done := stage.finished():
        return done
    selection = Selection(invocation.spec.select, stage.seed, holds_out=invocation.spec.trains_ppm)
    shards = [output.path for output in manifest.outputs]
    outputs: list[Output] = []
    number = 0
    for read, searched in enumerate(_read(invocation, manifest, shards)):
        for problem, record in searched:
            selection.add(problem, record)
            if len(selection.difficulty) == SHARD_PROBLEMS:
                outputs += _store(stage, selection, number)
                number += 1
        invocation.progress.report(read + 1, len(shards), last=read + 1 == len(shards))
    if selection.difficulty or not outputs:
        outputs += _store(stage, selection, number)
    return stage.finish(outputs, selection.metrics())


def _store(stage: StageRun, selection: Selection, number: int) -> list[Output]:
    """Store the rows that wait as one shard of each table."""
    with tempfile.TemporaryDirectory() as folder:
        paths: Mapping[str, Path] = {name: Path(folder) / f"{name}.parquet" for name in (SFT, PAIRS, DIFFICULTY)}
        write_sft(paths[SFT], selection.sft)
        write_pairs(paths[PAIRS], selection.pairs)
        write_rows(paths[DIFFICULTY], selection.difficulty, _DIFFICULTY)
        selection.clear()
        return [stage.upload(path, f"{name}/{number:05d}.parquet") for name, path in paths.items()]


def _read(
    invocation: Invocation, manifest: Manifest, shards: list[str]
) -> Iterator[list[tuple[Problem, SearchRecord]]]:
    for path in shards:
        with tempfile.TemporaryDirectory() as folder:
            yield read_trees(invocation.download("rollout", manifest, path, Path(folder) / "shard.parquet"))


if __name__ == "__main__":
    sys.exit(run(Stage.SELECT, work))

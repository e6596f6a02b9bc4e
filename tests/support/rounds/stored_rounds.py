"""Two small rounds in a store, written as the stages write them, for what reads stores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from rstar_jobs.evaluate import RESULTS

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.evaluation import ProblemResult, compared
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun
from rstar.selection.difficulty import correct_share, difficulty
from rstar.store.folder_store import FolderStore
from rstar.store.tables import write_rows, write_trees

METHODS = ("greedy", "mcts+ppm")
DIFFICULTY = pa.schema(
    [
        ("problem_id", pa.string()),
        ("difficulty", pa.string()),
        ("correct_share", pa.float64()),
        ("trajectories", pa.int64()),
    ]
)


def tree(problem: Problem, *, correct: bool | None, ppm: str = "", text: str = "print(8 * 3)") -> SearchRecord:
    """Return a root, a step, a failed sibling, and an answer with or without a verdict."""
    reward = 1.0 if correct else -1.0
    score = 0.5 if ppm else None
    nodes = (
        NodeRecord(-1, visits=2, value=reward - 1),
        NodeRecord(0, text=f"<code>\n# {text}\n<end_of_step>", tokens=5, visits=1, value=reward, score=score),
        NodeRecord(
            0, text="bad", tokens=5, visits=1, value=-1.0, valid=False, reason="exception: ValueError: no (line 1)"
        ),
        NodeRecord(
            1,
            text=f"\n{text}\n<end_of_code>",
            tokens=7,
            visits=1,
            value=reward,
            score=score,
            terminal=True,
            output=text,
            answer="24",
            correct=correct,
        ),
    )
    usage = Usage(rollouts=2, nodes=3, tokens=17, executions=3, scored=2 if ppm else 0)
    return SearchRecord(problem.id, nodes, usage, chosen=3, policy_digest="p" * 64, ppm_digest=ppm)


class StoredRounds:
    """Writes rounds into a folder. ``text`` stands in every question, step and output."""

    def __init__(self, folder: Path, text: str = "print(8 * 3)", problems: int = 6) -> None:
        self.store = FolderStore(folder)
        self._text = text
        self._training = [Problem(f"t{i}", f"{text} training {i}", "24") for i in range(problems)]
        self._held_out = [Problem(f"h{i}", f"{text} held out {i}", "24") for i in range(problems)]
        self._policy: ManifestRef | None = None

    def round(self, name: str, solved: int, *, until: Stage = Stage.EVALUATE) -> None:
        """Write a round that solves the first problems; ``until``: the last stage that is finished."""
        stages = list(Stage)
        last = stages.index(until)
        inputs = {} if self._policy is None else {"policy": self._policy}
        sources = {"problems": "a" * 64} | ({} if inputs else {"base_model": "b" * 64})
        trees = [(p, tree(p, correct=i < solved, text=self._text)) for i, p in enumerate(self._training)]
        rollout, _ = self.stage(
            name,
            Stage.ROLLOUT,
            inputs,
            sources,
            {"trees/00000.parquet": trees[:3], "trees/00001.parquet": trees[3:]},
            {"tokens": 102},
        )
        if last == 0:
            return
        rows = [
            {
                "problem_id": p.id,
                "difficulty": difficulty(r).value,
                "correct_share": correct_share(r),
                "trajectories": 1,
            }
            for p, r in trees
        ]
        select, _ = self.stage(
            name, Stage.SELECT, {"rollout": rollout}, {}, {"difficulty/00000.parquet": (rows, DIFFICULTY)}, {}
        )
        self._policy, _ = self.stage(
            name,
            Stage.TRAIN_POLICY,
            {"select": select},
            {"base_model": "b" * 64},
            {"checkpoint/model": b"p" + name.encode()},
            {"train_tokens": 900},
        )
        metrics = {
            "pair_accuracy": 0.8,
            "pair_accuracy_low": 0.6,
            "score_gap": 0.25,
            "pairs_held_out_non_final": 20,
            "problems_held_out_non_final": 9,
        }
        ppm, manifest = self.stage(
            name,
            Stage.TRAIN_PPM,
            {"select": select, "policy": self._policy},
            {},
            {"checkpoint/model": b"v" + name.encode()},
            metrics,
        )
        if last >= stages.index(Stage.EVALUATE):
            self.evaluate(name, solved, {"policy": self._policy, "ppm": ppm}, manifest.folder_digest("checkpoint"))

    def evaluate(self, name: str, solved: int, inputs: dict[str, ManifestRef], ppm: str) -> None:
        """Write an evaluation: greedy solves one problem less than the search."""
        results = {
            method: [
                ProblemResult(p.id, i < solved - (method == "greedy"), i < solved, 17 + i, 3)
                for i, p in enumerate(self._held_out)
            ]
            for method in METHODS
        }
        files: dict[str, Any] = {
            f"trees/{method}/00000.parquet": [
                (p, tree(p, correct=None, ppm=ppm, text=self._text)) for p in self._held_out
            ]
            for method in METHODS
        }
        files["results.parquet"] = ([{"method": m, **asdict(r)} for m, some in results.items() for r in some], RESULTS)
        metrics = {"methods": [row.metrics() for row in compared(results)]}
        self.stage(name, Stage.EVALUATE, inputs, {"problems": "c" * 64}, files, metrics)

    def stage(
        self,
        name: str,
        stage: Stage,
        inputs: dict[str, ManifestRef],
        sources: dict[str, str],
        files: dict[str, Any],
        metrics: dict[str, Any],
    ) -> tuple[ManifestRef, Manifest]:
        """Write the files and the manifest of a stage."""
        run = StageRun(self.store, name, stage, 1, {"name": name}, inputs, sources)
        outputs = [self._upload(run, path, content) for path, content in files.items()]
        times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:09+00:00", "seconds": 9.0}
        self.store.write(run.key("run.json"), json.dumps(times).encode())
        return run.finish(outputs, metrics)

    def key(self, name: str, stage: Stage, path: str) -> str:
        """Return the key of a file of a stage."""
        return next(key for key in self.store.list(f"rounds/{name}/{stage}/") if key.endswith(f"/{path}"))

    def _upload(self, run: StageRun, path: str, content: Any) -> Output:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif isinstance(content, tuple):
                write_rows(file, *content)
            else:
                write_trees(file, content)
            return run.upload(file, path)


def two_rounds(folder: Path, text: str = "print(8 * 3)") -> StoredRounds:
    """Return the rounds r1, which solves 2 of 6 problems, and r2, which solves 4."""
    rounds = StoredRounds(folder, text)
    rounds.round("r1", 2)
    rounds.round("r2", 4)
    return rounds

"""A store with one finished round, written by the functions that stages use; its models are given folders, or empty ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rstar_jobs.evaluate import RESULTS

from rstar import Round, Rounds
from rstar.local.journal import Journal
from rstar.local.work import work_folder
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.evaluation import ProblemResult, compared
from rstar.rounds.observed import SKIPPED, ManifestRef, Stage
from rstar.rounds.stage import StageRun
from rstar.rounds.status import OutputStatus, RoundStatus, StageStatus
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.digests import files_of
from rstar.store.open import open_store
from rstar.store.store import Store
from rstar.store.tables import write_pairs, write_rows, write_sft, write_trees

NAME = "r1"


def searched(name: str) -> tuple[Problem, SearchRecord]:
    """Return a problem and its search, of one node."""
    nodes = (NodeRecord(-1), NodeRecord(0, text="<code>\nprint(2)\n<end_of_code>", terminal=True, answer="2"))
    return Problem(name, "1+1?", "2", {"nums": [1, 1], "target": 2}), SearchRecord(
        name, nodes, Usage(tokens=5), chosen=1
    )


def checkpoint(folder: Path) -> dict[str, Path]:
    """Return the files of a model under the names that they have in a stage."""
    return {f"checkpoint/{name}": path for name, path in files_of(folder)}


def small_store(store: Store, parts: Path, policy: Path | None = None, ppm: Path | None = None) -> RoundStatus:
    """Write the round to the store, its files by way of the folder ``parts``, and return its status."""
    parts.mkdir()
    refs: dict[Stage, ManifestRef] = {}
    states: list[StageStatus] = []

    def finish(
        stage: Stage, files: Mapping[str, Path], inputs: Mapping[str, Stage], metrics: Mapping[str, Any]
    ) -> None:
        run = StageRun(store, NAME, stage, 1, {}, {name: refs[used] for name, used in inputs.items()})
        refs[stage], manifest = run.finish([run.upload(path, name) for name, path in files.items()], metrics)
        output = OutputStatus(manifest=refs[stage].key, digest=refs[stage].digest)
        states.append(StageStatus(name=stage.value, state="done", output=output, metrics=manifest.metrics))

    trees = {}
    for number, names in enumerate((("p0", "p1"), ("p2",))):
        trees[f"trees/{number:05d}.parquet"] = parts / f"trees-{number}"
        write_trees(parts / f"trees-{number}", [searched(name) for name in names])
    finish(Stage.ROLLOUT, trees, {}, {"coverage": 1.0})
    write_sft(parts / "sft", [SftExample("p0", "1+1?", ("print(2)",), 1.0)])
    right, wrong = Continuation(("print(2)",), 1.0, True), Continuation(("print(3)",), -1.0, True)
    write_pairs(parts / "pairs", [(PairGroup("p0", "1+1?", (), (right,), (wrong,), ((0, 0),)), "train")])
    selected = {"sft/00000.parquet": parts / "sft", "pairs/00000.parquet": parts / "pairs"}
    finish(Stage.SELECT, selected, {"rollout": Stage.ROLLOUT}, {})
    (parts / "config.json").write_text("{}")
    trained = checkpoint(policy) if policy is not None else {"checkpoint/config.json": parts / "config.json"}
    finish(Stage.TRAIN_POLICY, trained, {"select": Stage.SELECT}, {})
    skipped = {SKIPPED: "there are no pairs"} if ppm is None else {}
    finish(Stage.TRAIN_PPM, checkpoint(ppm) if ppm is not None else {}, {"select": Stage.SELECT}, skipped)
    results = [ProblemResult("p0", True, True, 5), ProblemResult("p1", False, True, 7)]
    write_rows(parts / "results", [{"method": "greedy", **asdict(one)} for one in results], RESULTS)
    write_trees(parts / "greedy", [searched("p0")])
    evaluated = {"results.parquet": parts / "results", "trees/greedy/00000.parquet": parts / "greedy"}
    metrics = {"methods": [row.metrics() for row in compared({"greedy": results})]}
    finish(Stage.EVALUATE, evaluated, {"policy": Stage.TRAIN_POLICY}, metrics)
    return RoundStatus(phase="Succeeded", message="complete", stages=tuple(states))


def finished_round(folder: Path, policy: Path | None = None, ppm: Path | None = None) -> Round:
    """Return round r1 of the store ``folder/store``, which has ended on this machine."""
    store = open_store(str(folder / "store"))
    journal = Journal(work_folder(store) / NAME)
    journal.folder.mkdir(parents=True)
    journal.put_status(1, small_store(store, folder / "parts", policy, ppm))
    return Rounds(folder / "store")[NAME]

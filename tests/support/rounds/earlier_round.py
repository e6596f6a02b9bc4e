"""A finished round in a store, as ``rstar plan --measured`` reads it."""

from __future__ import annotations

from pathlib import Path

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.manifest import canonical
from rstar.rounds.observed import Stage
from rstar.rounds.stage import StageRun
from rstar.store.folder_store import FolderStore
from rstar.store.tables import write_trees


def finished_round(store: FolderStore, name: str, finished: str, folder: Path) -> None:
    """Store the rollout, the selection and the SFT of a round over one problem: a tree of five nodes."""
    nodes = [
        NodeRecord(-1),
        NodeRecord(0, tokens=10, text="a"),
        NodeRecord(0, tokens=10, text="b", valid=False, terminal=True),
        NodeRecord(1, tokens=20, text="c", terminal=True, answer="1", correct=True),
        NodeRecord(1, tokens=20, text="d", terminal=True, answer="2", correct=False),
    ]
    record = SearchRecord("p", tuple(nodes), Usage(rollouts=2, nodes=4, tokens=80, executions=4))
    path = folder / "shard.parquet"
    write_trees(path, [(Problem("p", "1 + 0?", "1"), record)])
    for stage, metrics, rate in (
        (Stage.ROLLOUT, {"coverage": 0.5, "problems": 4, "nodes": 16, "tokens": 320}, 60.0),
        (Stage.SELECT, {"pairs_train": 5, "pairs_held_out": 1}, None),
        (Stage.TRAIN_POLICY, {"train_tokens": 1_000, "trained_examples": 20}, 32.0),
    ):
        run = StageRun(store, name, stage, 0, {})
        outputs = [run.upload(path, "trees/00000.parquet")] if stage is Stage.ROLLOUT else []
        run.finish(outputs, metrics)
        times = {"finished": finished, "last_progress": {"tokens_per_second": rate} if rate else None}
        store.write(run.key("run.json"), canonical(times))

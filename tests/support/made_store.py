"""A store with two finished rounds of hand-made results: small real tables, and tiny real checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.manifest import Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.store import Store
from rstar.store.tables import write_pairs, write_rows, write_sft, write_trees
from tests.support.tiny_model import save_policy, save_ppm

METHODS = [
    {"name": name, "problems": 2, "accuracy": accuracy, "low": 0.1, "high": 0.9, "tokens": 12.5, "any": accuracy}
    for name, accuracy in (("greedy", 0.5), ("mcts+ppm", 1.0))
]


def make_store(store: Store, models: Path) -> None:
    """Write the rounds r1 and r2; r2 names r1. ``models``: a folder for the checkpoints."""
    policy, ppm = save_policy("llama", models / "policy"), save_ppm("llama", models / "ppm")
    before: dict[str, ManifestRef] = {}
    for number, name in enumerate(("r1", "r2"), 1):
        before = {"policy": _round(store, name, number, before, policy, ppm)}


def _round(
    store: Store, name: str, seed: int, before: Mapping[str, ManifestRef], policy: Path, ppm: Path
) -> ManifestRef:
    def stage(kind: Stage, inputs: Mapping[str, ManifestRef], **sources: str) -> StageRun:
        return StageRun(store, name, kind, seed, {"round": seed}, inputs, sources)

    rollout = stage(Stage.ROLLOUT, before, problems="1" * 64)
    trees = [
        _table(rollout, f"trees/{i:05d}.parquet", lambda path, i=i: write_trees(path, [_searched(i)])) for i in (0, 1)
    ]
    rolled, _ = rollout.finish(trees, {"problems": 2})
    select = stage(Stage.SELECT, {"rollout": rolled})
    # The first round has no held-out pairs.
    splits = ("train", "held_out") if seed > 1 else ("train",)
    example = SftExample("p0", "1+1?", ("<code>\n# Step 1\nx = 2\n<end_of_step>",), 1.0)
    group = PairGroup(
        "p0", "1+1?", (), (Continuation(("a",), 1.0, False),), (Continuation(("b",), -1.0, True),), ((0, 0),)
    )
    level = {"problem_id": "p0", "difficulty": "easy", "correct_share": 1.0, "trajectories": 4}
    schema = pa.schema(
        [
            ("problem_id", pa.string()),
            ("difficulty", pa.string()),
            ("correct_share", pa.float64()),
            ("trajectories", pa.int32()),
        ]
    )
    outputs = [
        _table(select, "sft/00000.parquet", lambda path: write_sft(path, [example])),
        _table(select, "pairs/00000.parquet", lambda path: write_pairs(path, [(group, split) for split in splits])),
        _table(select, "difficulty/00000.parquet", lambda path: write_rows(path, [level], schema)),
    ]
    selected, _ = select.finish(outputs, {"sft_examples": 1})
    sft = stage(Stage.TRAIN_POLICY, {"select": selected}, base_model=f"hf:lab/base@{'a' * 40}")
    trained, _ = sft.finish(sft.upload_folder(policy, "checkpoint"), {"loss": 0.1})
    pairs = stage(Stage.TRAIN_PPM, {"select": selected, "policy": trained})
    scored, _ = pairs.finish(pairs.upload_folder(ppm, "checkpoint"), {"pair_accuracy": 0.75, "pair_accuracy_low": 0.6})
    evaluate = stage(Stage.EVALUATE, {"policy": trained, "ppm": scored}, problems="2" * 64)
    # The first round's code wrote no column "scored".
    columns: dict[str, Any] = {"method": "greedy", "problem_id": "p0", "correct": True} | (
        {"scored": 3} if seed > 1 else {}
    )
    types = {bool: pa.bool_(), str: pa.string(), int: pa.int64()}
    results = pa.schema([(key, types[type(value)]) for key, value in columns.items()])
    outputs = [
        _table(evaluate, "results.parquet", lambda path: write_rows(path, [columns], results)),
        _table(evaluate, "trees/mcts+ppm/00000.parquet", lambda path: write_trees(path, [_searched(7)])),
    ]
    evaluate.finish(outputs, {"problems": 2, "methods": METHODS})
    return trained


def _table(stage: StageRun, name: str, write: Any) -> Output:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write(path)
        return stage.upload(path, name)


def _searched(number: int) -> tuple[Problem, SearchRecord]:
    nodes: Sequence[NodeRecord] = (_node(-1, ""), _node(0, "<script>alert(1)</script>"))
    record = SearchRecord(f"p{number}", tuple(nodes), Usage(), 1, "d", "", "")
    return Problem(f"p{number}", f"{number}+1?", str(number + 1), {}), record


def _node(parent: int, text: str) -> NodeRecord:
    values: dict[str, Any] = {"parent": parent, "tree": 0, "text": text, "tokens": 3, "logprob": -1.0, "visits": 1}
    values |= {"value": 1.0, "score": None, "valid": True, "reason": "", "terminal": bool(text), "output": ""}
    return NodeRecord(**values, answer=None, correct=None)

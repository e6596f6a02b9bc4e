"""Trees, SFT examples and preference pairs as Parquet tables with fixed schemas.

DuckDB, pandas and ``datasets`` open them as they are. A trees table has one row per problem: the problem, the usage
of its search, and the nodes as a list of structs, parents first; a row is a ``Problem`` and its ``SearchRecord``
without loss. The same rows give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.selection import Continuation, PairGroup, SftExample

NODE = pa.struct(
    [
        ("parent", pa.int32()),
        ("tree", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("logprob", pa.float64()),
        ("visits", pa.int32()),
        ("value", pa.float64()),
        ("score", pa.float64()),
        ("valid", pa.bool_()),
        ("reason", pa.string()),
        ("terminal", pa.bool_()),
        ("output", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
    ]
)
USAGE = pa.struct([(field.name, pa.int64()) for field in fields(Usage)])
TREES = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("reference", pa.string()),
        ("data", pa.string()),
        ("synthetic", pa.bool_()),
        ("usage", USAGE),
        ("chosen", pa.int32()),
        ("policy_digest", pa.string()),
        ("ppm_digest", pa.string()),
        ("error", pa.string()),
        ("nodes", pa.list_(NODE)),
    ]
)
"""``reference`` is the problem's known answer and ``data`` its JSON object; ``chosen`` a position in ``nodes`` or -1."""

SFT = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("mean_q", pa.float64()),
    ]
)
CONTINUATION = pa.struct([("steps", pa.list_(pa.string())), ("q", pa.float64()), ("terminal", pa.bool_())])
PAIRS = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("prefix", pa.list_(pa.string())),
        ("right", pa.list_(CONTINUATION)),
        ("wrong", pa.list_(CONTINUATION)),
        ("pairs", pa.list_(pa.struct([("right", pa.int32()), ("wrong", pa.int32())]))),
        ("split", pa.string()),
    ]
)
"""``pairs`` are positions in ``right`` and ``wrong``; ``split`` is train or held_out: by problem, so that none is in both."""

_NODE_FIELDS = [field.name for field in fields(NodeRecord)]
_USAGE_FIELDS = [field.name for field in fields(Usage)]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write a table. Raises ``pyarrow.ArrowInvalid`` when a row does not fit the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read a table. Raises ``ValueError`` when it has another schema."""
    table = pq.read_table(path)
    if not table.schema.equals(schema):
        raise ValueError(f"{path} is not the table it should be: it has the columns {', '.join(table.column_names)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def write_trees(path: Path, searched: Iterable[tuple[Problem, SearchRecord]]) -> None:
    """Write one row per searched problem. Raises ``TypeError`` when a problem's data are not JSON."""
    write_rows(path, [_tree_row(problem, record) for problem, record in searched], TREES)


def read_trees(path: Path) -> list[tuple[Problem, SearchRecord]]:
    """Read a trees table. Raises ``ValueError`` when it is another table."""
    return [_searched(row) for row in read_rows(path, TREES)]


def write_sft(path: Path, examples: Iterable[SftExample]) -> None:
    """Write one row per SFT example."""
    rows = [{field.name: getattr(example, field.name) for field in fields(SftExample)} for example in examples]
    write_rows(path, rows, SFT)


def read_sft(path: Path) -> list[SftExample]:
    """Read an SFT table. Raises ``ValueError`` when it is another table."""
    return [SftExample(**{**row, "steps": tuple(row["steps"])}) for row in read_rows(path, SFT)]


def write_pairs(path: Path, groups: Iterable[tuple[PairGroup, str]]) -> None:
    """Write one row per (group, split)."""
    write_rows(path, [_group_row(group, split) for group, split in groups], PAIRS)


def read_pairs(path: Path, split: str) -> list[PairGroup]:
    """Read the groups of one split. Raises ``ValueError`` when it is another table."""
    return [_group(row) for row in read_rows(path, PAIRS) if row["split"] == split]


def count_rows(path: Path, **equal: str) -> int:
    """Return the number of a table's rows in which columns have these values, without reading the other columns."""
    if not equal:
        return int(pq.read_metadata(path).num_rows)
    columns = pq.read_table(path, columns=list(equal)).to_pylist()
    return sum(row == equal for row in columns)


def _group_row(group: PairGroup, split: str) -> dict[str, Any]:
    return {
        "problem_id": group.problem_id,
        "question": group.question,
        "prefix": group.prefix,
        "right": [asdict(side) for side in group.right],
        "wrong": [asdict(side) for side in group.wrong],
        "pairs": [{"right": right, "wrong": wrong} for right, wrong in group.pairs],
        "split": split,
    }


def _group(row: dict[str, Any]) -> PairGroup:
    def side(name: str) -> tuple[Continuation, ...]:
        return tuple(Continuation(tuple(item["steps"]), item["q"], item["terminal"]) for item in row[name])

    pairs = tuple((pair["right"], pair["wrong"]) for pair in row["pairs"])
    return PairGroup(row["problem_id"], row["question"], tuple(row["prefix"]), side("right"), side("wrong"), pairs)


def _tree_row(problem: Problem, record: SearchRecord) -> dict[str, Any]:
    return {
        "problem_id": problem.id,
        "question": problem.question,
        "reference": problem.answer,
        "data": json.dumps(dict(problem.data), sort_keys=True),
        "synthetic": problem.synthetic,
        "usage": {name: getattr(record.usage, name) for name in _USAGE_FIELDS},
        "chosen": record.chosen,
        "policy_digest": record.policy_digest,
        "ppm_digest": record.ppm_digest,
        "error": record.error,
        "nodes": [{name: getattr(node, name) for name in _NODE_FIELDS} for node in record.nodes],
    }


def _searched(row: dict[str, Any]) -> tuple[Problem, SearchRecord]:
    problem = Problem(
        row["problem_id"], row["question"], row["reference"], json.loads(row["data"]), synthetic=row["synthetic"]
    )
    record = SearchRecord(
        problem_id=problem.id,
        nodes=tuple(NodeRecord(**node) for node in row["nodes"]),
        usage=Usage(**row["usage"]),
        chosen=row["chosen"],
        policy_digest=row["policy_digest"],
        ppm_digest=row["ppm_digest"],
        error=row["error"],
    )
    return problem, record

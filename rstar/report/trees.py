"""Search trees for the tree viewer (``assets/tree.js``): compact columns of plain JSON. Pure.

``tree_entry`` is one item of ``rstarTrees.mount(element, {trees: [...]})``. Its ``data`` are columns with one value per
node, in the order of ``SearchRecord.nodes``; texts are positions in one table, because siblings and outputs repeat.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.embed import packed
from rstar.report.play import played

VALID, TERMINAL, CORRECT, WRONG = 1, 2, 4, 8
"""Bits of the column ``flags``; without ``CORRECT`` and ``WRONG`` the verdict is unknown."""


def tree_entry(
    round_name: str, method: str, problem: Problem, record: SearchRecord, *, right: bool | None
) -> dict[str, Any]:
    """Return one tree of the viewer. ``method``: ``rollout`` or an evaluation method; ``right``: the problem's mark."""
    return {
        "id": f"{round_name}/{method}/{problem.id}",
        "label": problem.question if len(problem.question) <= 160 else f"{problem.question[:159]}…",
        "round": round_name,
        "method": method,
        "right": right,
        "problem": {"id": problem.id, "question": problem.question, "reference": problem.answer},
        "data": packed(columns(record)),
    }


def mark(record: SearchRecord, answered_right: bool | None) -> bool | None:
    """Return whether the problem counts as right: the graded answer's verdict, else the nodes' own; None: no verdict."""
    if answered_right is not None:
        return answered_right
    if any(node.correct is not None for node in record.nodes):
        return record.solved
    return None if any(True for _ in record.terminals()) else False


def columns(record: SearchRecord) -> dict[str, Any]:
    """Return the record as plain JSON without loss, but that a number that JSON cannot hold (NaN) becomes null."""
    table: dict[str, int] = {}

    def place(text: str | None) -> int:
        return -1 if text is None else table.setdefault(text, len(table))

    nodes = record.nodes
    return {
        "parent": [node.parent for node in nodes],
        "tree": [node.tree for node in nodes],
        "visits": [node.visits for node in nodes],
        "value": [_number(node.value) for node in nodes],
        "score": [_number(node.score) for node in nodes],
        "tokens": [node.tokens for node in nodes],
        "logprob": [_number(node.logprob) for node in nodes],
        "flags": [_flags(node.valid, node.terminal, node.correct) for node in nodes],
        "text": [place(node.text) for node in nodes],
        "reason": [place(node.reason) for node in nodes],
        "output": [place(node.output) for node in nodes],
        "answer": [place(node.answer) for node in nodes],
        "texts": list(table),
        "chosen": record.chosen,
        "usage": asdict(record.usage),
        "policyDigest": record.policy_digest,
        "ppmDigest": record.ppm_digest,
        "error": record.error,
        "play": asdict(played(record)),
    }


def _flags(valid: bool, terminal: bool, correct: bool | None) -> int:
    verdict = 0 if correct is None else CORRECT if correct else WRONG
    return valid * VALID | terminal * TERMINAL | verdict


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

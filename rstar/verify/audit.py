"""Rows of reference and answer that audit a verifier: reading them, and figures by kind. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rstar.interfaces import Verdict
from rstar.problem import Problem

NO_KIND = "-"


class RowFaultError(ValueError):
    """A line is not a row; the message says what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A reference and an answer. ``correct`` is the label, None where there is none; ``data`` is for the verifier."""

    line: int
    reference: str | None
    answer: str
    kind: str = NO_KIND
    correct: bool | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def problem(self) -> Problem:
        """Return the problem that a verifier judges the answer against."""
        return Problem(f"line-{self.line}", "", self.reference, self.data)


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Counts of the rows of one kind; the last four are of labelled rows."""

    kind: str
    rows: int
    correct: int
    labelled: int
    right: int
    false_positives: int
    false_negatives: int

    @property
    def accuracy(self) -> float | None:
        """The share of labelled rows whose verdict is the label, None without any."""
        return self.right / self.labelled if self.labelled else None


def read_rows(lines: Iterable[str]) -> tuple[list[AuditRow], list[str]]:
    """Return the rows of a JSONL text, and one sentence per line that is no row; empty lines are left out."""
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(_row(number, line))
        except RowFaultError as fault:
            faults.append(f"line {number}: {fault}")
    return rows, faults


def _row(number: int, line: str) -> AuditRow:
    try:
        # Numbers stay as they are written: 0.10 and 1e400 have no exact float.
        row = json.loads(line, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        detail = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        )
        raise RowFaultError(f"not JSON ({detail}): write one JSON object per line") from None
    if not isinstance(row, dict):
        raise RowFaultError("not a JSON object: write one object with the keys reference and answer per line")
    for key in ("reference", "answer"):
        if key not in row:
            has = ", ".join(map(str, row)) or "no keys"
            raise RowFaultError(f"no {key!r} (the row has {has}): add it")
    if row["answer"] is None:
        raise RowFaultError("'answer' is null: write a text")
    label = row.get("correct")
    if label is not None and not isinstance(label, bool):
        raise RowFaultError("'correct' is neither true nor false")
    data = json.loads(line).get("data") or {}
    if not isinstance(data, dict):
        raise RowFaultError("'data' is no JSON object")
    return AuditRow(
        number,
        None if row["reference"] is None else _text(row["reference"], "reference"),
        _text(row["answer"], "answer"),
        _text(row.get("kind") or NO_KIND, "kind"),
        label,
        data,
    )


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise RowFaultError(f"{key!r} is neither a text nor a number")
    return value


def figures(rows: Sequence[AuditRow], verdicts: Sequence[Verdict]) -> list[KindFigures]:
    """Return the figures of every kind, in the order of the rows, and of all rows last."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    pairs = list(zip(rows, verdicts, strict=True))
    by_kind = [_counted(kind, [pair for pair in pairs if pair[0].kind == kind]) for kind in kinds]
    return [*by_kind, _counted("all", pairs)]


def _counted(kind: str, pairs: Sequence[tuple[AuditRow, Verdict]]) -> KindFigures:
    labelled = [(row.correct, verdict.correct) for row, verdict in pairs if row.correct is not None]
    return KindFigures(
        kind,
        rows=len(pairs),
        correct=sum(verdict.correct for _, verdict in pairs),
        labelled=len(labelled),
        right=sum(label == found for label, found in labelled),
        false_positives=sum(found and not label for label, found in labelled),
        false_negatives=sum(label and not found for label, found in labelled),
    )

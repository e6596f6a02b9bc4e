"""Verdicts as lines and their figures as a table. Pure rendering."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from rstar.interfaces import Verdict
from rstar.verify.audit import AuditRow, KindFigures


def verdict_line(row: AuditRow, verdict: Verdict) -> str:
    """Return ``3 wrong units: different numbers: 3 and 4``, and the label where the verdict differs from it."""
    found = "correct" if verdict.correct else "wrong"
    differs = row.correct is not None and row.correct != verdict.correct
    label = f" (labelled {'correct' if row.correct else 'wrong'})" if differs else ""
    # JSON escapes line breaks and lone surrogates, so that a row is one printable line.
    reason = json.dumps(verdict.reason, ensure_ascii=not verdict.reason.isprintable())[1:-1].replace("\\\\", "\\")
    return f"{row.line} {found} {row.kind}: {reason}{label}"


def figures_table(figures: Sequence[KindFigures], title: str) -> Table:
    """Return the table by kind; accuracy and errors are of the labelled rows."""
    table = Table(title=Text(title))
    columns = ("kind", "rows", "correct", "labelled", "accuracy", "false positives", "false negatives")
    for column in columns:
        table.add_column(column, justify="left" if column == "kind" else "right")
    for k in figures:
        accuracy = "-" if k.accuracy is None else f"{k.accuracy:.1%}"
        errors = (str(k.false_positives), str(k.false_negatives)) if k.labelled else ("-", "-")
        table.add_row(Text(k.kind), str(k.rows), str(k.correct), str(k.labelled), accuracy, *errors)
    return table

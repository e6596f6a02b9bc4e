"""Problems from a file or from lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rstar.problem import Problem
from rstar.readers.collect import OnBadRow, Reading, collect
from rstar.readers.containers import file_rows, line_rows


def read_problems(
    source: Path | str | Iterable[str],
    format: str = "jsonl",
    *,
    limit: int | None = None,
    on_bad_row: OnBadRow = "fail",
) -> list[Problem]:
    """Read the problems of a file or folder (a path) or of lines, in order; ``limit`` keeps the first ones.

    Raises ``ValueError`` for an unknown format, a file that cannot be read, and bad rows (unless they are skipped): up
    to five lines of "FILE:LINE: what is wrong: how to mend it".
    """
    return read_file(source, format, limit, on_bad_row).problems


def read_file(
    source: Path | str | Iterable[str], format: str, limit: int | None = None, on_bad_row: OnBadRow = "fail"
) -> Reading:
    """Read as ``read_problems``, and return what else is known of the rows."""
    if isinstance(source, Path | str):
        return collect(str(source), file_rows(Path(source)), format, limit, on_bad_row)
    lines = ((f"line {number}", line) for number, line in enumerate(source, 1))
    return collect("lines", line_rows(lines), format, limit, on_bad_row)

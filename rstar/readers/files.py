"""Problems from a file or from lines: decoding, line numbers, JSON and CSV.

Text that is not UTF-8 is an error: a replacement character would change the question.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rstar.problem import Problem
from rstar.readers.collect import LocatedRow, check_format, collect_problems
from rstar.readers.formats import RowError

CSV_COLUMN = "Puzzles"
CSV_TARGET = 24

Line = tuple[str, str | RowError]
"""The place of a line (``FILE:LINE``), and its text or the error in it."""


def read_problems(source: Path | str | Iterable[str], format: str, *, limit: int | None = None) -> list[Problem]:
    """Read the problems of a file (a path) or of lines, in order; ``limit`` keeps the first ones.

    Raises ``ValueError`` for an unknown format, a file that cannot be read, and bad rows: up to five lines of
    "FILE:LINE: what is wrong: how to mend it".
    """
    check_format(format)
    if isinstance(source, Path | str):
        name, lines = str(source), _file_lines(Path(source))
    else:
        name, lines = "lines", ((f"line {i}", line) for i, line in enumerate(source, 1))
    filled = ((where, line) for where, line in lines if isinstance(line, RowError) or line.strip())
    return collect_problems(name, _csv_rows(filled) if format == "countdown" else map(_json_row, filled), format, limit)


def _file_lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                where = f"{path}:{number}"
                try:
                    yield where, raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    yield where, RowError(f"not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _json_row(line: Line) -> LocatedRow:
    where, text = line
    if isinstance(text, RowError):
        return where, text
    try:
        row: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return where, RowError(f"not JSON ({error.msg} at column {error.colno}): write one JSON object per line")
    except (ValueError, RecursionError) as error:
        return where, RowError(f"not usable JSON ({error}): write one JSON object per line")
    if not isinstance(row, dict):
        return where, RowError('not a JSON object: write one object per line, like {"question": ..., "answer": ...}')
    return where, row


def _csv_rows(lines: Iterable[Line]) -> Iterator[LocatedRow]:
    """Read countdown rows: JSON lines, or a CSV if the first line does not look like JSON."""
    lines = iter(lines)
    head = next(lines, None)
    if head is None:
        return
    where, text = head
    if isinstance(text, RowError) or text.lstrip().startswith(("{", "[")):
        yield from map(_json_row, chain([head], lines))
        return
    header = [cell.strip() for cell in next(csv.reader([text]))]
    if CSV_COLUMN not in header:
        yield (
            where,
            RowError(
                f'neither JSON nor a CSV header with the column {CSV_COLUMN}: write {{"nums": [..], "target": 24}}'
            ),
        )
        return
    column = header.index(CSV_COLUMN)
    for where, text in lines:
        if isinstance(text, RowError):
            yield where, text
            continue
        cells = next(csv.reader([text]))
        try:
            nums = [int(word) for word in cells[column].split()]
        except (IndexError, ValueError):
            yield where, RowError(f"no whole numbers in the column {CSV_COLUMN}: write them like 1 1 4 6")
            continue
        yield where, {"nums": nums, "target": CSV_TARGET}

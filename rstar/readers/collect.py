"""Collects the rows of any source into a list of problems: errors are listed, ids checked, duplicates dropped.

Two rows with the same explicit id are an error, because it is unknown which one is meant. Rows without an id and with
the same content are one problem: the later ones are dropped, and their number is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from rstar.problem import Problem
from rstar.readers.formats import FORMATS, RowError, explicit_id

MOST_ERRORS = 5

log = logging.getLogger(__name__)

LocatedRow = tuple[str, Mapping[str, Any] | RowError]
"""The place of a row (``FILE:LINE``), and the row or the error in it."""


def check_format(name: str) -> None:
    """Raise ``ValueError`` for an unknown format, with the nearest known one."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown format of problems {name!r}: {hint}There are {', '.join(FORMATS)}")


def collect_problems(source: str, rows: Iterable[LocatedRow], format: str, limit: int | None) -> list[Problem]:
    """Return the first ``limit`` problems of ``rows`` (None: all).

    Raises ``ValueError`` with a line for each of the first five bad rows, and when there are no rows.
    """
    errors: list[str] = []
    problems: dict[str, Problem] = {}
    first: dict[str, str] = {}
    dropped = 0
    for where, problem, explicit in _read(rows, format, errors):
        if problem.id not in problems:
            problems[problem.id], first[problem.id] = problem, where
        elif explicit:
            errors.append(
                f"{where}: id {problem.id!r} is taken by {first[problem.id]}; rename or remove one of the rows"
            )
        else:
            dropped += 1
        if len(errors) >= MOST_ERRORS or (limit is not None and len(problems) >= limit):
            break
    if errors:
        more = f"\n(only the first {MOST_ERRORS} bad rows are named)" if len(errors) >= MOST_ERRORS else ""
        raise ValueError("\n".join(errors) + more)
    if not problems:
        raise ValueError(f"{source}: there is no problem in it; give one row per problem in the format {format!r}")
    if dropped:
        log.warning("%s: dropped %d rows that repeat an earlier problem", source, dropped)
    return list(problems.values())


def _read(rows: Iterable[LocatedRow], format: str, errors: list[str]) -> Iterator[tuple[str, Problem, bool]]:
    """Yield the problems of the good rows and add the bad ones to ``errors``, until there are too many."""
    convert = FORMATS[format]
    for where, row in rows:
        try:
            if isinstance(row, RowError):
                raise row
            problem = convert(row)
            encodable(problem.question, problem.answer or "", problem.id)
        except RowError as error:
            errors.append(f"{where}: {error}")
            if len(errors) >= MOST_ERRORS:
                return
            continue
        yield where, problem, explicit_id(row)


def encodable(*texts: str) -> None:
    r"""Raise ``RowError`` for half a surrogate pair (a JSON ``"\ud83d"``), which cannot be stored or sent."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"the text has half a character, {text[error.start]!a}: replace it") from None

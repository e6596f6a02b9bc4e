"""Collects the rows of any source into a list of problems: errors are listed, ids checked, duplicates dropped.

Two rows with the same explicit id are an error, because it is unknown which one is meant. Rows without an id and with
the same content are one problem: the later ones are dropped, and their number is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

from rstar.problem import Problem
from rstar.readers.containers import LocatedRow
from rstar.readers.formats import FORMATS, explicit_id
from rstar.readers.row import RowError

MOST_ERRORS: Final = 5

OnBadRow = Literal["fail", "skip"]
"""A bad row is an error of the whole data set, or is left out, logged and counted."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read.

    ``explicit``: ids that rows gave themselves; ``bad_rows``: how many rows were left out; ``row_ids``: the id of the
    problem in each good row, by the row's number from 1 (of one data set only). ``data_sets``: the name of each
    problem's data set, by its id (of several data sets only).
    """

    problems: list[Problem] = field(default_factory=list)
    explicit: frozenset[str] = frozenset()
    bad_rows: int = 0
    row_ids: Mapping[int, str] = field(default_factory=dict)
    data_sets: Mapping[str, str] = field(default_factory=dict)

    def metrics(self) -> dict[str, int]:
        """Return what a stage reports of the reading: the bad rows, where there are any."""
        return {"bad_rows": self.bad_rows} if self.bad_rows else {}


def check_format(name: str) -> None:
    """Raise ``ValueError`` for an unknown format, with the nearest known one."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown format of problems {name!r}: {hint}There are {', '.join(FORMATS)}")


def collect(
    source: str, rows: Iterable[LocatedRow], format: str, limit: int | None, on_bad_row: OnBadRow = "fail"
) -> Reading:
    """Return the first ``limit`` problems of ``rows`` (None: all).

    Raises ``ValueError`` with a line for each of the first five bad rows (unless they are skipped), and when there are
    no problems.
    """
    check_format(format)
    errors = _Errors(source, stop=on_bad_row == "fail")
    problems: dict[str, Problem] = {}
    first: dict[str, str] = {}
    explicit: set[str] = set()
    row_ids: dict[int, str] = {}
    dropped = 0
    for number, where, problem, has_id in _read(rows, format, errors):
        if problem.id not in problems:
            problems[problem.id], first[problem.id] = problem, where
            explicit |= {problem.id} if has_id else set()
        elif has_id:
            taken = f"id {problem.id!r} is taken by {first[problem.id]}; rename or remove one of the rows"
            errors.add(where, taken)
        else:
            dropped += 1
        row_ids[number] = problem.id
        if errors.enough or (limit is not None and len(problems) >= limit):
            break
    errors.report()
    if not problems:
        raise ValueError(f"{source}: there is no problem in it; give one row per problem in the format {format!r}")
    if dropped:
        log.warning("%s: dropped %d rows that repeat an earlier problem", source, dropped)
    return Reading(list(problems.values()), frozenset(explicit), errors.count, row_ids)


class _Errors:
    """The bad rows so far: the first five by name, and how many there are."""

    def __init__(self, source: str, *, stop: bool) -> None:
        self._source = source
        self._stop = stop
        self._named: list[str] = []
        self.count = 0

    @property
    def enough(self) -> bool:
        """Whether reading on is useless."""
        return self._stop and self.count >= MOST_ERRORS

    def add(self, where: str, error: object) -> None:
        """Count a bad row."""
        self.count += 1
        if self.count <= MOST_ERRORS:
            self._named.append(f"{where}: {error}")

    def report(self) -> None:
        """Raise ``ValueError`` with the named rows, or log them where they are skipped."""
        if not self.count:
            return
        if not self._stop:
            log.warning("%s: left out %d bad rows, such as %s", self._source, self.count, "; ".join(self._named))
            return
        more = f"\n(only the first {MOST_ERRORS} bad rows are named)" if self.enough else ""
        raise ValueError("\n".join(self._named) + more)


def _read(rows: Iterable[LocatedRow], format: str, errors: _Errors) -> Iterator[tuple[int, str, Problem, bool]]:
    """Yield the problems of the good rows and add the bad ones to ``errors``, until there are too many."""
    convert = FORMATS[format]
    for number, (where, row) in enumerate(rows, 1):
        try:
            if isinstance(row, RowError):
                raise row
            problem = convert(row)
            encodable(problem.question, problem.answer or "", problem.id)
        except RowError as error:
            errors.add(where, error)
            if errors.enough:
                return
            continue
        yield number, where, problem, explicit_id(row)


def encodable(*texts: str) -> None:
    r"""Raise ``RowError`` for half a surrogate pair (a JSON ``"\ud83d"``), which cannot be stored or sent."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"the text has half a character, {text[error.start]!a}: replace it") from None

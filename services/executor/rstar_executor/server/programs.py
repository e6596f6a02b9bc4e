"""From a request to programs: pure functions on plain data.

What a client got wrong raises ``ValueError`` with one sentence; what a *policy* wrote never does: a program that
cannot run has a status. The module refuses to run anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar.trajectory import code_of

MAX_CANDIDATES = 1024
MAX_BATCH_BYTES = 64 << 20
MAX_PROGRAM_BYTES = 1 << 20

DEFAULTS = ExecutionLimits()

_HEAVY_MODULES = ("numpy", "sympy", "scipy", "mpmath")
_IMPORTS_HEAVY = re.compile(rf"(?:import|,)\s*(?:{'|'.join(_HEAVY_MODULES)})\b|from\s+(?:{'|'.join(_HEAVY_MODULES)})\b")


class Kind(StrEnum):
    """Which warm interpreter forks a program. The light one forks several times as fast."""

    LIGHT = "light"
    HEAVY = "heavy"


PRELOADED = {
    Kind.LIGHT: (
        *("math", "fractions", "itertools", "random", "re", "collections", "functools", "decimal", "statistics"),
        *("datetime", "json"),
    ),
    Kind.HEAVY: ("numpy", "sympy"),
}
"""Modules a kind has imported before it forks; any other is imported by the program itself."""


REPEATABLE = (ExecutionStatus.OK, ExecutionStatus.EXCEPTION)
"""Statuses that are the program's own doing: every other may be the machine's."""


def digest(program: str) -> bytes:
    """Return what a program is known by, 16 bytes."""
    return blake2b(program.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def kind_of(program: str) -> Kind:
    """Choose the interpreter of a program: the heavy one where it imports what only that has loaded.

    It is a matter of speed alone: either kind runs every program.
    """
    return Kind.HEAVY if _IMPORTS_HEAVY.search(program) else Kind.LIGHT


def codes_of(steps: Sequence[str], candidates: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the code of each step and of each candidate; a program is the steps' codes and a candidate's, joined.

    Raises ``ValueError`` when there are too many candidates or too much text.
    """
    if len(candidates) > MAX_CANDIDATES:
        raise ValueError(f"{len(candidates)} candidates in one call; send at most {MAX_CANDIDATES}")
    size = len(candidates) * sum(map(len, steps)) + sum(map(len, candidates))
    if size > MAX_BATCH_BYTES:
        raise ValueError(
            f"the programs of one call have {size} characters, more than {MAX_BATCH_BYTES}; send fewer candidates per call"
        )
    return [code_of([step]) for step in steps], [code_of([candidate]) for candidate in candidates]


def rejection(program: str) -> str:
    """Return why ``program`` is not run at all, or an empty text."""
    if len(program) > MAX_PROGRAM_BYTES:
        return f"the program has {len(program)} characters, more than {MAX_PROGRAM_BYTES}"
    if "\0" in program:
        return "the program contains a NUL character"
    return ""


def bounded(limits: ExecutionLimits, maximum: ExecutionLimits) -> ExecutionLimits:
    """Return the limits that hold: 0 takes the default, and none exceeds ``maximum``.

    Raises ``ValueError`` for a negative limit or one that is no number.
    """
    values: dict[str, Any] = {}
    for name, value in asdict(limits).items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"limits.{name} is {value}; give a number of at least 0 (0 takes the default)")
        values[name] = min(value or getattr(DEFAULTS, name), getattr(maximum, name))
    return ExecutionLimits(**values)

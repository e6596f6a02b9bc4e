"""Turns a request into programs and limits: pure functions on plain data.

A client's mistake raises ``ValueError`` with one sentence. What a policy wrote never does: a program that cannot run has
a status.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar.trajectory import code_of
from rstar_executor.sandbox.limits import Limits

MAX_CANDIDATES = 1024
MAX_BATCH_BYTES = 64 << 20
MAX_PROGRAM_BYTES = 1 << 20

DEFAULTS = ExecutionLimits()


class Kind(StrEnum):
    """The zygote from which a program is forked. The light one forks several times as fast as the others."""

    LIGHT = "light"
    HEAVY = "heavy"
    SCIPY = "scipy"


def _imports(*modules: str) -> str:
    names = "|".join(modules)
    return rf"(?:import|,)\s*(?:{names})\b|from\s+(?:{names})\b"


# sympy's lambdify imports scipy where that is installed.
_NEEDS: Final = {
    Kind.SCIPY: re.compile(rf"{_imports('scipy', 'networkx', 'pandas')}|\blambdify\b"),
    Kind.HEAVY: re.compile(_imports("numpy", "sympy", "mpmath")),
}

PRELOADED = {
    Kind.LIGHT: (
        *("math", "fractions", "itertools", "random", "re", "collections", "functools", "decimal", "statistics"),
        *("datetime", "json"),
    ),
    Kind.HEAVY: ("numpy", "sympy"),
    Kind.SCIPY: (
        *("numpy", "sympy", "scipy.special", "scipy.linalg", "scipy.optimize", "scipy.integrate", "scipy.interpolate"),
        *("scipy.signal", "scipy.stats", "networkx"),
    ),
}
"""Modules that each zygote has imported; a program imports any other itself."""


REPEATABLE = (ExecutionStatus.OK, ExecutionStatus.EXCEPTION)
"""Statuses that depend on the program alone: every other may depend on the machine."""


def digest(program: str) -> bytes:
    """Return the digest of a program, 16 bytes."""
    return blake2b(program.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def kind_of(program: str) -> Kind:
    """Return the kind of a program, by the modules that its text names.

    The choice affects speed alone: every kind runs every program.
    """
    return next((kind for kind, pattern in _NEEDS.items() if pattern.search(program)), Kind.LIGHT)


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
    """Return the reason why ``program`` must not be run, or an empty text."""
    if len(program) > MAX_PROGRAM_BYTES:
        return f"the program has {len(program)} characters, more than {MAX_PROGRAM_BYTES}"
    if "\0" in program:
        return "the program contains a NUL character"
    return ""


def bounded(limits: ExecutionLimits, maximum: ExecutionLimits) -> Limits:
    """Convert requested limits into those of the sandbox: 0 takes the default, and none exceeds ``maximum``.

    Raises ``ValueError`` for a negative limit or one that is no number.
    """
    values: dict[str, Any] = {}
    for name, value in asdict(limits).items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"limits.{name} is {value}; give a number of at least 0 (0 takes the default)")
        values[name] = min(value or getattr(DEFAULTS, name), getattr(maximum, name))
    return Limits(**values)

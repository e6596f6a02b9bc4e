"""A check: it gathers facts of a machine, a store or a cluster, and judges them.

The judgement is a pure function of the facts, so that it is tested without a broken machine. The facts are plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

Facts = TypeVar("Facts")

Result = Literal["ok", "warning", "failed", "skipped"]
"""warning: some work is slow or impossible; failed: a round cannot run; skipped: it could not be found out."""

SECONDS: Final = 30.0
"""Time limit of a check that has no limit of its own."""

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: a sentence of what was found, and one of how to mend it ('' when all is well)."""

    name: str
    result: Result
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """``run`` gathers and judges; it may raise anything or hang. ``seconds``: when it is given up."""

    name: str
    run: Callable[[], Sequence[Finding]]
    seconds: float = SECONDS


def check(
    name: str, gather: Callable[[], Facts], judge: Callable[[Facts], Finding | list[Finding]], seconds: float = SECONDS
) -> Check:
    """Return the check that judges what ``gather`` returns."""

    def run() -> list[Finding]:
        judged = judge(gather())
        return judged if isinstance(judged, list) else [judged]

    return Check(name, run, seconds)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 when a check failed, else 0."""
    return int(any(finding.result == "failed" for finding in findings))


def size(count: float) -> str:
    """Return bytes as people read them.

    >>> size(3 * 2**30)
    '3.0 GiB'
    """
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"

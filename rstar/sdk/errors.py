"""The errors of ``rstar.Solver``. Wrong arguments are a ``ValueError``; every message is one sentence."""

from __future__ import annotations

from rstar.record import SearchRecord


class SolverError(Exception):
    """A search has failed. ``record`` has what it found and spent, if anything was."""

    def __init__(self, message: str, record: SearchRecord | None = None) -> None:
        super().__init__(message)
        self.record = record


class ServicesError(SolverError):
    """A service did not start, or cannot be reached (any more)."""


class SolveTimeoutError(SolverError, TimeoutError):
    """A search was not finished within its timeout, and was ended."""

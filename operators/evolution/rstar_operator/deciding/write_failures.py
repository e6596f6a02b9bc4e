"""Why a write failed for a reason that only a user can mend: an object of somebody else, or a refusal by the API server.

The stored status remembers the failure as a condition. A restarted operator therefore builds the same status, and the
status does not change back and forth while the write is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rstar.rounds.status import RoundStatus

FailureReason = Literal["NameConflict", "CreationRefused"]
WRITE_FAILURES: Final[tuple[FailureReason, ...]] = ("NameConflict", "CreationRefused")
"""The conditions, which are also their reasons."""


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """``NameConflict``: somebody else's object has the name of a child. ``CreationRefused``: by a quota or a policy."""

    reason: FailureReason
    message: str


def recorded_failure(status: RoundStatus | None) -> WriteFailure | None:
    """Return the failure that the stored status records, if any."""
    conditions = {c.type: c for c in status.conditions if c.status == "True"} if status is not None else {}
    return next((WriteFailure(r, conditions[r].message) for r in WRITE_FAILURES if r in conditions), None)

"""Why a write failed for a reason that only a user can mend: an object of somebody else, or a refusal by the API server.

The stored status remembers the failure as a condition. A restarted operator therefore builds the same status, and the
status does not change back and forth while the write is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.status import RoundStatus

FailureReason = Literal["NameConflict", "CreationRefused", "ChangeRefused"]
WRITE_FAILURES: Final[tuple[FailureReason, ...]] = ("NameConflict", "CreationRefused", "ChangeRefused")
"""The conditions, which are also their reasons."""


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """``NameConflict``: somebody else's object has the name of a child.

    ``CreationRefused``, ``ChangeRefused``: the API server refuses to create or change a child (a quota, a rule).
    """

    reason: FailureReason
    message: str


def name_conflict(kind: str, name: str, owner: str) -> WriteFailure:
    """Return the failure that somebody else's object has the name of a child. ``owner``: round or evolution."""
    return WriteFailure(
        "NameConflict",
        f"{kind} {name} is in the way: it does not belong to this {owner} and is not touched; delete it or rename the {owner}",
    )


def recorded_failure(status: RoundStatus | EvolutionStatus | None) -> WriteFailure | None:
    """Return the failure that the stored status records, if any."""
    conditions = {c.type: c for c in status.conditions if c.status == "True"} if status is not None else {}
    return next((WriteFailure(r, conditions[r].message) for r in WRITE_FAILURES if r in conditions), None)

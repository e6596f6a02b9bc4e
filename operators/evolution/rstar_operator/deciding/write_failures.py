"""Why a write failed for a reason that only a user can mend: an object of somebody else, or a refusal by the API server.

The stored status remembers the failure as a condition. A restarted operator therefore builds the same status, and the
status does not change back and forth while the write is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.status import Condition, ConditionStatus, RoundStatus

FailureReason = Literal["NameConflict", "CreationRefused", "ChangeRefused"]
WRITE_FAILURES: Final[tuple[FailureReason, ...]] = ("NameConflict", "CreationRefused", "ChangeRefused")
"""The conditions, which are also their reasons."""


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """``NameConflict``: somebody else's object has the name of a child.

    ``CreationRefused``: the API server did not create a child, because of a quota or a rule. ``ChangeRefused``: it did
    not change one.
    """

    reason: FailureReason
    message: str


def name_conflict(kind: str, name: str, owner: str) -> WriteFailure:
    """Return the failure that somebody else's object has the name of a child. ``owner``: round or evolution."""
    return WriteFailure(
        "NameConflict",
        f"{kind} {name} is in the way: it does not belong to this {owner} and is not touched; delete it or rename the {owner}",
    )


def failure_conditions(
    before: RoundStatus | EvolutionStatus | None, failure: WriteFailure | None, now: datetime
) -> Iterator[Condition]:
    """Yield the conditions of the failed write, and clear those of an earlier one. None appears before it was true."""

    def condition(kind: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
        return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=now)

    if failure is not None:
        yield condition("Ready", "False", failure.reason, failure.message)
    for kind in WRITE_FAILURES:
        was = before.condition(kind) if before is not None else None
        if failure is not None and failure.reason == kind:
            yield condition(kind, "True", kind, failure.message)
        elif was is not None and was.status == "True":
            yield condition(kind, "False", "Cleared")


def recorded_failure(status: RoundStatus | EvolutionStatus | None) -> WriteFailure | None:
    """Return the failure that the stored status records, if any."""
    conditions = {c.type: c for c in status.conditions if c.status == "True"} if status is not None else {}
    return next((WriteFailure(r, conditions[r].message) for r in WRITE_FAILURES if r in conditions), None)

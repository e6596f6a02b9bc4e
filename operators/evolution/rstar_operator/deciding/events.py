"""Which Events the change from one status to the next is worth, and their bodies. Pure.

The name of an Event is a hash of its text, so that an operator that was killed posts no Event twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rstar.cluster.api import Json
from rstar.cluster.names import OPERATOR
from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.status import AttemptStatus, Condition, RoundStatus
from rstar_operator.snapshot import format_time

WARNINGS: Final = {
    "AttemptsExhausted",
    "BadInput",
    "Cancelled",
    "ChangeRefused",
    "CreationRefused",
    "DeadlineExceeded",
    "InvalidSpec",
    "NameConflict",
    "PendingTooLong",
    "PreviousRoundFailed",
    "PreviousRoundIncomplete",
    "NoPreviousPPM",
    "ServiceFailed",
}
_NOT_COUNTED: Final = {"suspended", "cancelled", "lost"}


def transitions(before: RoundStatus | None, after: RoundStatus) -> Iterator[tuple[str, str, str]]:
    """Yield (type, reason, message) of every attempt that ended and every new reason of Ready."""
    old = {(r.stage, r.number): r for r in before.attempts} if before else {}
    for record in after.attempts:
        if record.finished_at is not None and not _finished(old.get((record.stage, record.number))):
            yield _attempt_event(record)
    if (now := new_ready(before, after)) is not None:
        yield "Warning" if now.reason in WARNINGS else "Normal", now.reason, now.message


def new_ready(before: RoundStatus | EvolutionStatus | None, after: RoundStatus | EvolutionStatus) -> Condition | None:
    """Return the condition Ready of ``after`` if its reason is another one than before."""
    was = before.condition("Ready") if before is not None else None
    now = after.condition("Ready")
    return now if now is not None and (was is None or was.reason != now.reason) else None


def event(body: Json, kind: str, reason: str, message: str, now: datetime) -> Json:
    """Return the Event about a round."""
    head = body["metadata"]
    digest = hashlib.sha256(f"{head['uid']} {head['generation']} {reason} {message}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{head['name']}.{digest}", "namespace": head["namespace"]},
        "involvedObject": {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "name": head["name"],
            "namespace": head["namespace"],
            "uid": head["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:1_000],
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
        "source": {"component": OPERATOR},
        "reportingComponent": OPERATOR,
    }


def _finished(record: AttemptStatus | None) -> bool:
    return record is not None and record.finished_at is not None


def _attempt_event(record: AttemptStatus) -> tuple[str, str, str]:
    name = f"attempt {record.number} of stage {record.stage}"
    if record.state == "succeeded":
        return "Normal", "StageDone", f"{name} is done"
    if record.ending in _NOT_COUNTED:
        return "Normal", "AttemptEnded", f"{name} was ended: {record.ending}"
    return "Warning", "AttemptFailed", f"{name} failed: {record.reason or record.ending or record.exit_code}"

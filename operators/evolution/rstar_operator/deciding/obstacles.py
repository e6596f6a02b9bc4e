"""What stands in the way of a write, told in the status: somebody else's object, or the API server's refusal.

An obstacle is remembered by its condition alone, so that a restarted operator says the same and status does not
flap while it is tried again. The module refuses to mend anything: what is in the way is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from rstar.rounds.status import Condition, RoundStatus, merge_conditions

OBSTACLES: Final = ("NameConflict", "CreationRefused")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """``NameConflict``: an object that is not the round's has a child's name. ``CreationRefused``: a quota, a policy."""

    kind: Literal["NameConflict", "CreationRefused"]
    message: str


def remembered(status: RoundStatus | None) -> Obstacle | None:
    """Return the obstacle that the last status tells of."""
    for condition in status.conditions if status is not None else ():
        if condition.status == "True":
            if condition.type == "NameConflict":
                return Obstacle("NameConflict", condition.message)
            if condition.type == "CreationRefused":
                return Obstacle("CreationRefused", condition.message)
    return None


def hindered(status: RoundStatus, obstacle: Obstacle, now: datetime) -> RoundStatus:
    """Return the status of a round that cannot go on as planned."""
    told = [
        Condition(type=kind, status="True", reason=obstacle.kind, message=obstacle.message, last_transition_time=now)
        for kind in ("Ready", obstacle.kind)
    ]
    told[0] = told[0].model_copy(update={"status": "False"})
    conditions = merge_conditions(status.conditions, told)
    return status.model_copy(update={"message": obstacle.message, "conditions": conditions, "progress": {}})


def cleared(status: RoundStatus, now: datetime) -> RoundStatus:
    """Return the status with no obstacle in it any more; one that never was stays unsaid."""
    gone = [
        Condition(type=kind, status="False", reason="Cleared", last_transition_time=now)
        for kind in OBSTACLES
        if (old := status.condition(kind)) is not None and old.status == "True"
    ]
    return status.model_copy(update={"conditions": merge_conditions(status.conditions, gone)})

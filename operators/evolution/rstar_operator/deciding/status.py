"""The status of a round, built in one place from all facts about it.

The planner's status has the state of the stages, as on a laptop. The operator adds what only a cluster has: attempts
that it ends, writes that failed, the deletion of artefacts, the generation of the spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from rstar.cluster.api import Json
from rstar.config import Settings
from rstar.rounds.observed import Stage
from rstar.rounds.status import (
    AttemptStatus,
    Condition,
    ConditionStatus,
    OutputStatus,
    RoundStatus,
    merge_conditions,
)
from rstar_operator.deciding.autoscaling import AUTOSCALING_UNAVAILABLE, Unavailable
from rstar_operator.deciding.deletion import ARTIFACTS_KEPT, Deletion
from rstar_operator.deciding.write_failures import WriteFailure, failure_conditions


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """All that the status is built from.

    ``before`` is the stored status, ``planned`` the planner's; ``attempts`` are the planner's too, with the reasons why
    the plan ends some of them. ``deletion`` is None while the spec cannot be read. ``failure`` is the write that failed.
    ``unavailable``: why services cannot scale as the round asks.
    """

    before: RoundStatus | None
    planned: RoundStatus
    attempts: tuple[AttemptStatus, ...]
    generation: int
    now: datetime
    deletion: Deletion | None = None
    failure: WriteFailure | None = None
    unavailable: Unavailable | None = None


def build_status(facts: StatusFacts) -> RoundStatus:
    """Return the status to store. A condition keeps its transition time unless its status changes."""
    failed = failure_conditions(facts.before, facts.failure, facts.now)
    own = (*_deletion_conditions(facts), *_autoscaling_conditions(facts))
    new = {c.type: c for c in (*facts.planned.conditions, *own, *failed)}
    conditions = merge_conditions(facts.before.conditions if facts.before else (), new.values())
    return facts.planned.model_copy(
        update={
            "observed_generation": facts.generation,
            "message": _message(facts),
            "conditions": tuple(c.model_copy(update={"observed_generation": facts.generation}) for c in conditions),
            "inputs": _inputs(facts),
            "attempts": facts.attempts,
        }
    )


def status_body(body: Json, status: Settings) -> Json:
    """Return the object with its new status, to be stored only over the version of ``body``."""
    head = body["metadata"]
    kept = {key: head[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    plain = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "metadata": kept,
        "spec": body["spec"],
        "status": plain,
    }


def _message(facts: StatusFacts) -> str:
    if facts.failure is not None:
        return facts.failure.message
    if facts.deletion is not None and facts.deletion.message:
        return facts.deletion.message
    return facts.planned.message


def _inputs(facts: StatusFacts) -> dict[str, OutputStatus]:
    """Return what the rollout read; once it is done that is kept, because the previous round may be deleted."""
    done = any(s.name == Stage.ROLLOUT.value and s.output is not None for s in facts.planned.stages)
    return facts.before.inputs if done and facts.before and facts.before.inputs else facts.planned.inputs


def _deletion_conditions(facts: StatusFacts) -> Iterator[Condition]:
    """Yield whether the artefacts are kept although the round asks for their deletion."""
    if facts.deletion is None:
        return
    if facts.deletion.kept_because:
        yield _condition(facts, ARTIFACTS_KEPT, "True", "OperatorMayGoFirst", facts.deletion.kept_because)
    elif _before(facts, ARTIFACTS_KEPT) is not None:
        yield _condition(facts, ARTIFACTS_KEPT, "False", "Cleared")


def _autoscaling_conditions(facts: StatusFacts) -> Iterator[Condition]:
    """Yield whether model servers cannot scale by queued tokens."""
    if facts.unavailable is not None:
        yield _condition(facts, AUTOSCALING_UNAVAILABLE, "True", facts.unavailable.reason, facts.unavailable.message)
    elif _before(facts, AUTOSCALING_UNAVAILABLE) is not None:
        yield _condition(facts, AUTOSCALING_UNAVAILABLE, "False", "Cleared")


def _before(facts: StatusFacts, kind: str) -> Condition | None:
    return facts.before.condition(kind) if facts.before is not None else None


def _condition(facts: StatusFacts, kind: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=facts.now)

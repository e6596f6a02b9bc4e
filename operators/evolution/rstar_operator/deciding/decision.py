"""The decision of one reconcile pass: the status to store, the writes that follow it, and when to look again.

The planner decides about the stages, as on a laptop (``rstar.rounds.plan``); this module turns its actions into writes.
It is pure: the same snapshot at the same time gives the same decision, and a snapshot in which the decision has been
carried out gives one without writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rstar.rounds.observed import Action, EndStage, Observed, Stage
from rstar.rounds.plan import plan
from rstar.rounds.services import stage_searches
from rstar.rounds.services_spec import ServicesSpec
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.status import AttemptStatus, Condition, ConditionStatus, RoundStatus
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.autoscaling import unavailable_autoscaling, without_mechanism
from rstar_operator.deciding.deletion import decide_deletion
from rstar_operator.deciding.status import StatusFacts, build_status
from rstar_operator.deciding.write_failures import WriteFailure, recorded_failure
from rstar_operator.deciding.writes import Write, next_expiry, writes
from rstar_operator.observing.attempts import attempts, jobs_without_pods, reported_progress
from rstar_operator.observing.rounds import InvalidRoundError, previous_round, read_round, read_status
from rstar_operator.observing.services import services, shared_executor
from rstar_operator.snapshot import RoundSnapshot, deleting

RETRY_AFTER: Final = timedelta(seconds=30)
"""A foreign object or a quota may go without an event that the operator watches."""

_INVALID: Final[dict[str, ConditionStatus]] = {"Ready": "False", "Failed": "True"}


@dataclass(frozen=True, slots=True)
class Decision:
    """``status`` is stored first, then ``writes`` are made; look again after ``requeue_after`` if nothing happens."""

    facts: StatusFacts
    status: RoundStatus
    writes: tuple[Write, ...] = ()
    requeue_after: timedelta | None = None

    def status_after(self, failure: WriteFailure | None) -> RoundStatus:
        """Return the status once the writes were tried: the same facts, with the write that failed."""
        return build_status(replace(self.facts, failure=failure))


def decide(snapshot: RoundSnapshot, configuration: Configuration, now: datetime) -> Decision:
    """Decide what the round of ``snapshot`` needs now."""
    head = snapshot.round["metadata"]
    before = read_status(snapshot.round)
    try:
        item = read_round(snapshot.round)
    except InvalidRoundError as error:
        planned = _invalid(before, str(error), now)
        facts = StatusFacts(before, planned, planned.attempts, head["generation"], now)
        return Decision(facts, build_status(facts))
    owner = Owner(item, head["namespace"], head["uid"])
    spec = _without_sizes(item.spec)
    observed = _observe(spec, snapshot, configuration, before, now)
    plans = plan(spec, item.name, observed, now)
    records = _with_endings(plans.status.attempts, plans.actions)
    unavailable = unavailable_autoscaling(item.spec.services, configuration, without_keda=snapshot.without_keda)
    usable = configuration if unavailable is None else without_mechanism(configuration)
    made = writes(owner, usable, plans.actions, records, snapshot, now)
    deletion = decide_deletion(owner, configuration, snapshot, idle=not (made or _holds_compute(observed)))
    made += deletion.writes
    # The failure of an earlier pass stays in the status until its writes succeed or are no longer wanted.
    failure = recorded_failure(before) if made else None
    facts = StatusFacts(before, plans.status, records, head["generation"], now, deletion, failure, unavailable)
    pauses = (
        plans.requeue_after,
        next_expiry(owner, records, snapshot, now),
        RETRY_AFTER if any(jobs_without_pods(snapshot, records)) else None,
    )
    return Decision(facts, build_status(facts), tuple(made), min((p for p in pauses if p is not None), default=None))


def _without_sizes(spec: EvolutionRoundSpec) -> EvolutionRoundSpec:
    """Return the spec without the sizes of services: they may change during the round and are not part of a name."""
    return spec.model_copy(update={"services": ServicesSpec()})


def _observe(
    spec: EvolutionRoundSpec,
    snapshot: RoundSnapshot,
    configuration: Configuration,
    before: RoundStatus | None,
    now: datetime,
) -> Observed:
    generation = snapshot.round["metadata"]["generation"]
    seen = Observed(
        attempts=attempts(snapshot, before, now),
        services=services(snapshot),
        previous=previous_round(spec.previous_round, snapshot.previous),
        conditions=tuple(c for c in before.conditions if not _outdated(c, generation)) if before else (),
        progress=reported_progress(snapshot),
        deleted=deleting(snapshot.round),
    )
    stage = next((stage for stage in Stage if seen.output(stage) is None), None)
    if stage is None or not stage_searches(spec, stage):
        return seen
    executor = shared_executor(spec, snapshot, configuration.executor, now)
    return replace(seen, services=(*seen.services, executor))


def _outdated(condition: Condition, generation: int) -> bool:
    """Return whether a service failed under an earlier spec: by an edit the user asks for another try."""
    return condition.reason == "ServiceFailed" and condition.observed_generation != generation


def _holds_compute(observed: Observed) -> bool:
    """Return whether anything of the round may still hold compute."""
    return any(a.live for a in observed.attempts) or any(not s.shared for s in observed.services)


def _with_endings(records: tuple[AttemptStatus, ...], actions: tuple[Action, ...]) -> tuple[AttemptStatus, ...]:
    """Record why attempts are ended, before their jobs are deleted: the reason must outlive the job."""
    ends = {(a.stage.value, a.attempt): a.reason.value for a in actions if isinstance(a, EndStage)}
    return tuple(
        record.model_copy(update={"ending": ends.get((record.stage, record.number), record.ending)})
        for record in records
    )


def _invalid(before: RoundStatus | None, sentence: str, now: datetime) -> RoundStatus:
    """Return the status of a round whose spec the API server accepted and this version cannot read."""
    conditions = tuple(
        Condition(type=kind, status=status, reason="InvalidSpec", message=sentence, last_transition_time=now)
        for kind, status in _INVALID.items()
    )
    changed = {"phase": "Failed", "message": sentence, "conditions": conditions, "progress": {}, "progress_text": ""}
    return (before or RoundStatus(phase="Failed")).model_copy(update=changed)

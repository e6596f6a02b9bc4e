"""One look at a round, decided: the status to store, the writes that follow it, when to look again.

The decisions about stages are the planner's, the same as on a laptop (``rstar.rounds.plan``); here its words are
turned into objects. Pure: the same world at the same time gives the same decision, and a world in which it has been
carried out gives one without writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rstar.cluster.api import Json
from rstar.rounds.observed import Action, EndStage, Observed, Stage
from rstar.rounds.plan import plan
from rstar.rounds.services import needs_services
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec, ServicesSpec
from rstar.rounds.status import Condition, ConditionStatus, RoundStatus, merge_conditions
from rstar_operator.backend import TrainingBackend
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.deletion import decide_deletion, told_of_artifacts
from rstar_operator.deciding.obstacles import Obstacle, cleared, hindered
from rstar_operator.deciding.writes import Write, next_expiry, writes
from rstar_operator.observing.attempts import attempts, podless, reported_progress
from rstar_operator.observing.rounds import previous_round, read_status
from rstar_operator.observing.services import services, shared_executor
from rstar_operator.snapshot import World, deleting

OBSTACLE_PAUSE: Final = timedelta(seconds=30)
"""What is in the way may go without a sign that the operator watches for."""

_REFUSED: Final[dict[str, ConditionStatus]] = {"Ready": "False", "Failed": "True"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to store first, what to write then, and when to look again if nothing happens before."""

    status: RoundStatus
    writes: tuple[Write, ...]
    requeue_after: timedelta | None


def decide(
    item: EvolutionRound,
    world: World,
    configuration: Configuration,
    backend: TrainingBackend,
    now: datetime,
    obstacle: Obstacle | None = None,
) -> Decision:
    """Decide on the round ``item`` that ``world`` holds; ``obstacle`` is what hindered the writes of the pass before."""
    head = world.round["metadata"]
    owner = Owner(item, head["namespace"], head["uid"])
    before = read_status(world.round)
    spec = _planned(item.spec)
    observed = _observe(spec, world, configuration, backend, before, now)
    planned = plan(spec, item.name, observed, now)
    status = _with_endings(planned.status, planned.actions)
    status = _with_lineage(status, before)
    made = writes(owner, configuration, backend, planned.actions, status, world, now)
    deletion = decide_deletion(owner, configuration, world, idle=not (made or _held(observed)))
    if deletion.message:
        status = status.model_copy(update={"message": deletion.message})
    status = told_of_artifacts(status, deletion, now)
    status = hindered(status, obstacle, now) if obstacle is not None else cleared(status, now)
    status = _stamped(status, head["generation"])
    podless_jobs = any(podless(world, status, backend))
    pauses = (
        planned.requeue_after,
        next_expiry(owner, status, world, now),
        OBSTACLE_PAUSE if obstacle is not None or podless_jobs else None,
    )
    return Decision(status, (*made, *deletion.writes), min((p for p in pauses if p is not None), default=None))


def _planned(spec: EvolutionRoundSpec) -> EvolutionRoundSpec:
    """Return the spec without the sizes of services: they may change while the round runs, and change no service's name."""
    return spec.model_copy(update={"services": ServicesSpec()})


def _observe(
    spec: EvolutionRoundSpec,
    world: World,
    configuration: Configuration,
    backend: TrainingBackend,
    before: RoundStatus | None,
    now: datetime,
) -> Observed:
    generation = world.round["metadata"]["generation"]
    seen = Observed(
        attempts=attempts(world, before, backend, now),
        services=services(world),
        previous=previous_round(spec.previous_round, world.previous),
        conditions=tuple(c for c in before.conditions if not _outdated(c, generation)) if before else (),
        progress=reported_progress(world),
        deleted=deleting(world.round),
    )
    stage = next((stage for stage in Stage if seen.output(stage) is None), None)
    if stage is None or not needs_services(spec, stage):
        return seen
    executor = shared_executor(spec, world, configuration.executor, now)
    return replace(seen, services=(*seen.services, executor))


def _outdated(condition: Condition, generation: int) -> bool:
    """Say whether the failure of a service was of another spec: an edit is the user's way to say 'try again'."""
    return condition.reason == "ServiceFailed" and condition.observed_generation != generation


def _held(observed: Observed) -> bool:
    """Say whether anything of the round may still hold compute."""
    return any(a.live for a in observed.attempts) or any(not s.shared for s in observed.services)


def _with_endings(status: RoundStatus, actions: tuple[Action, ...]) -> RoundStatus:
    """Write down which attempts are told to end, before they are: the reason must outlive the job."""
    ends = {(a.stage.value, a.attempt): a.reason.value for a in actions if isinstance(a, EndStage)}
    changed = tuple(
        record.model_copy(update={"ending": ends.get((record.stage, record.number), record.ending)})
        for record in status.attempts
    )
    return status.model_copy(update={"attempts": changed})


def _with_lineage(status: RoundStatus, before: RoundStatus | None) -> RoundStatus:
    """Keep what the rollout has read, though the round before may be deleted meanwhile."""
    done = any(s.name == Stage.ROLLOUT.value and s.output is not None for s in status.stages)
    if before is None or not done or not before.inputs:
        return status
    return status.model_copy(update={"inputs": before.inputs})


def refused(world: World, sentence: str, now: datetime) -> Decision:
    """Decide on a round whose spec the API server let pass and this version cannot read: it is told, and left alone."""
    before = read_status(world.round)
    told = [
        Condition(type=kind, status=state, reason="InvalidSpec", message=sentence, last_transition_time=now)
        for kind, state in _REFUSED.items()
    ]
    status = before or RoundStatus(phase="Failed")
    conditions = merge_conditions(status.conditions, told)
    changed = {"phase": "Failed", "message": sentence, "conditions": conditions, "progress": {}, "progress_text": ""}
    status = _stamped(status.model_copy(update=changed), world.round["metadata"]["generation"])
    return Decision(status, (), None)


def _stamped(status: RoundStatus, generation: int) -> RoundStatus:
    conditions = tuple(c.model_copy(update={"observed_generation": generation}) for c in status.conditions)
    return status.model_copy(update={"observed_generation": generation, "conditions": conditions})


def status_body(body: Json, status: RoundStatus) -> Json:
    """Return the object with its new status, to be stored only over the very version that was looked at."""
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

"""The planner: from a spec and the observed state of a round to the actions to take now.

``plan(spec, name, observed, now)`` decides the order of the stages, attempts and their backoff, deadlines, which
services run when, suspension and the end. It is a pure function with two drivers: the laptop's (``rstar.local``) and
the operator carry out the same actions. Once a plan is carried out, the next plan has no actions; every round ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rstar.rounds.guidance import Guidance, ppm_guidance
from rstar.rounds.observed import (
    BAD_INPUT,
    STAGE_INPUTS,
    STAGES,
    Action,
    Attempt,
    AttemptState,
    EndReason,
    EndStage,
    ManifestRef,
    Observed,
    ServiceKind,
    Stage,
    StartStage,
    StopService,
)
from rstar.rounds.programs import NO_MANIFEST
from rstar.rounds.report import PhaseDecision, report
from rstar.rounds.services import backoff, needed_services, reconcile
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.status import Phase, RoundStatus

PREVIOUS_ROUND_POLL: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions to take now, the status for users, and when to plan again if nothing happens before."""

    actions: tuple[Action, ...]
    status: RoundStatus
    requeue_after: timedelta | None = None


def plan(spec: EvolutionRoundSpec, name: str, observed: Observed, now: datetime) -> Plan:
    """Return the plan of round ``name``. ``now`` is timezone-aware, as all times in ``observed`` are."""
    can_start = spec.round == 1 or observed.previous.state == "succeeded"
    guidance = ppm_guidance(spec, observed.previous) if can_start else None
    decision = _decide(spec, name, observed, guidance, now)
    inputs = stage_inputs(spec, observed, Stage.ROLLOUT)
    return Plan(decision.actions, report(observed, decision, guidance, inputs, now), decision.requeue_after)


def stage_inputs(spec: EvolutionRoundSpec, observed: Observed, stage: Stage) -> dict[str, ManifestRef]:
    """Return the manifests that ``stage`` reads, by input name, as far as they exist."""
    if stage is not Stage.ROLLOUT:
        outputs = {name: observed.output(source) for name, source in STAGE_INPUTS[stage].items()}
        return {name: output.manifest for name, output in outputs.items() if output is not None}
    policy = observed.previous.outputs.get(Stage.TRAIN_POLICY) if spec.rollout.policy is None else None
    ppm = ppm_guidance(spec, observed.previous).ppm
    inputs = {"policy": policy.manifest if policy else None, "ppm": ppm}
    return {name: ref for name, ref in inputs.items() if ref is not None}


def _decide(
    spec: EvolutionRoundSpec,
    name: str,
    observed: Observed,
    guidance: Guidance | None,
    now: datetime,
) -> PhaseDecision:
    stage = next((stage for stage in STAGES if observed.output(stage) is None), None)
    if observed.deleted:
        return _release(observed, stage, EndReason.CANCELLED, "Deleted", "Deleted", "the round is being deleted")
    if stage is None:
        return _release(observed, stage, EndReason.CANCELLED, "Succeeded", "AllStagesDone", f"round {name} is complete")
    if failure := _failure(spec, name, observed, guidance, stage):
        return _release(observed, stage, EndReason.CANCELLED, "Failed", *failure)
    if spec.cancel:
        message = f"round {name} was cancelled: all compute is released, finished work is kept"
        return _release(observed, stage, EndReason.CANCELLED, "Failed", "Cancelled", message)
    if spec.suspend or observed.suspended:
        message = "suspended: all compute is released, finished work is kept"
        return _release(observed, stage, EndReason.SUSPENDED, "Suspended", "Suspended", message)
    if stage is Stage.ROLLOUT and spec.round > 1 and observed.previous.state != "succeeded":
        state = "does not exist yet" if observed.previous.state == "missing" else "is still running"
        message = f"round {name} waits: its previous round {spec.previous_round} {state}"
        return _release(
            observed, stage, EndReason.CANCELLED, "Waiting", "PreviousRoundNotReady", message, PREVIOUS_ROUND_POLL
        )
    return _run(spec, name, observed, stage, stage_inputs(spec, observed, stage), now)


def _release(
    observed: Observed,
    stage: Stage | None,
    end: EndReason,
    phase: Phase,
    reason: str,
    message: str,
    requeue_after: timedelta | None = None,
) -> PhaseDecision:
    """End all attempts and stop all services: what every phase but Running does."""
    ends = [EndStage(a.stage, a.number, end) for a in observed.attempts if a.live and a.ending is None]
    stops = [StopService(s.ref) for s in observed.services if s.state != "stopping" and not s.shared]
    return PhaseDecision((*ends, *stops), phase, reason, message, stage, requeue_after)


def _failure(
    spec: EvolutionRoundSpec, name: str, observed: Observed, guidance: Guidance | None, stage: Stage
) -> tuple[str, str] | None:
    """Return (reason, message) when the round cannot continue. The failure of a service is kept as its condition."""
    before = next((c for c in observed.conditions if c.type == "Failed" and c.status == "True"), None)
    if before is not None and before.reason == "ServiceFailed":
        return before.reason, before.message
    faults = [attempt for attempt in observed.of(stage) if attempt.counts]
    if faults and faults[-1].exit_code == BAD_INPUT:
        return "BadInput", f"stage {stage} refuses its input: {faults[-1].reason}"
    if len(faults) >= spec.lifecycle.max_attempts:
        times = "once" if len(faults) == 1 else f"{len(faults)} times"
        return "AttemptsExhausted", f"stage {stage} failed {times}: {_reason(faults[-1])}"
    if stage is not Stage.ROLLOUT:
        return None
    if spec.round > 1 and observed.previous.state == "failed":
        return "PreviousRoundFailed", f"round {name} cannot start: its previous round {spec.previous_round} failed"
    if guidance is not None and guidance.error:
        return guidance.reason, guidance.message
    if spec.round > 1 and guidance is not None and Stage.TRAIN_POLICY not in observed.previous.outputs:
        return "PreviousRoundIncomplete", f"the previous round {spec.previous_round} left no policy in the store"
    return None


def _reason(attempt: Attempt) -> str:
    if attempt.reason:
        return attempt.reason
    if attempt.exit_code == 0:
        return NO_MANIFEST
    if attempt.ending is EndReason.DEADLINE:
        return "it ran past its deadline"
    if attempt.ending is EndReason.UNSCHEDULED:
        return "its pods did not start in time"
    return f"exit code {attempt.exit_code}"


def _run(
    spec: EvolutionRoundSpec,
    name: str,
    observed: Observed,
    stage: Stage,
    inputs: Mapping[str, ManifestRef],
    now: datetime,
) -> PhaseDecision:
    """Start the services of ``stage`` and keep exactly one attempt of it running."""
    needed = needed_services(spec, name, stage, _models(observed, stage, inputs))
    services = reconcile(needed, observed.services, spec.lifecycle, now)
    if services.failure:
        return _release(observed, stage, EndReason.CANCELLED, "Failed", "ServiceFailed", services.failure)
    live = [attempt for attempt in observed.attempts if attempt.live]
    current = max((a for a in live if a.stage is stage), key=lambda a: a.number, default=None)
    stale = tuple(
        EndStage(a.stage, a.number, EndReason.CANCELLED) for a in live if a is not current and a.ending is None
    )
    if current is not None:
        return _watch(spec, current, (*services.actions, *stale), services.wait, now)
    actions: tuple[Action, ...] = (*services.actions, *stale)
    if live:
        return PhaseDecision(actions, "Running", "EndingAttempt", "an earlier attempt is still ending", stage)
    retry_at, why = _next_try(spec, observed.of(stage))
    if retry_at is not None and retry_at > now:
        message = f"stage {stage} is tried again at {retry_at:%H:%M:%S}: {why}"
        return PhaseDecision(actions, "Running", "BackOff", message, stage, retry_at - now)
    if not services.ready:
        return PhaseDecision(actions, "Running", "ServicesStarting", services.message, stage, services.wait)
    number = max((attempt.number for attempt in observed.of(stage)), default=0) + 1
    search = next((ref for ref in needed if ref.kind is ServiceKind.SEARCH), None)
    start = StartStage(stage, number, tuple(sorted(inputs.items())), search)
    deadline = timedelta(seconds=spec.lifecycle.deadline_seconds)
    return PhaseDecision((*actions, start), "Running", "StageStarting", f"stage {stage} is starting", stage, deadline)


def _models(observed: Observed, stage: Stage, inputs: Mapping[str, ManifestRef]) -> dict[str, ManifestRef]:
    """Return the inputs that hold a model to serve. The PPM's manifest holds none if the round trained no PPM."""
    ppm = observed.output(Stage.TRAIN_PPM) if stage is Stage.EVALUATE else None
    untrained = ppm is not None and bool(ppm.skipped)
    return {name: ref for name, ref in inputs.items() if not (untrained and name == "ppm")}


def _next_try(spec: EvolutionRoundSpec, attempts: tuple[Attempt, ...]) -> tuple[datetime | None, str]:
    """Return when the next attempt may start, and why not before; None: at once.

    The pause after a failed attempt begins at its end, after a lost one at its start: where machines are often taken
    away, an attempt that ran longer than the pause has done some work, and the next one starts at once.
    """
    pauses = []
    if faults := [attempt for attempt in attempts if attempt.counts]:
        ended = faults[-1].finished_at or faults[-1].started_at
        pauses.append((ended + backoff(spec.lifecycle, len(faults)), _reason(faults[-1])))
    if lost := [attempt for attempt in attempts if attempt.ending is EndReason.LOST and not attempt.live]:
        pauses.append((lost[-1].started_at + backoff(spec.lifecycle, len(lost)), _reason(lost[-1])))
    return max(pauses, key=lambda pause: pause[0], default=(None, ""))


def _watch(
    spec: EvolutionRoundSpec, current: Attempt, actions: tuple[Action, ...], wait: timedelta | None, now: datetime
) -> PhaseDecision:
    stage = current.stage
    if current.ending is not None:
        return PhaseDecision(actions, "Running", "EndingAttempt", f"stage {stage} is ending: {current.ending}", stage)
    if current.state is AttemptState.PENDING:
        return _await(spec, current, actions, now)
    left = current.started_at + timedelta(seconds=spec.lifecycle.deadline_seconds) - now
    if left <= timedelta():
        message = f"stage {stage} ran past its deadline of {spec.lifecycle.deadline_seconds} s"
        end = EndStage(stage, current.number, EndReason.DEADLINE)
        return PhaseDecision((*actions, end), "Running", "DeadlineExceeded", message, stage)
    requeue = min(left, wait) if wait is not None else left
    return PhaseDecision(actions, "Running", "StageRunning", f"stage {stage} is running", stage, requeue)


def _await(spec: EvolutionRoundSpec, current: Attempt, actions: tuple[Action, ...], now: datetime) -> PhaseDecision:
    """Wait for the pods of an attempt, for at most ``pendingSeconds``; time in an admission queue has no limit."""
    stage, why = current.stage, f": {current.reason}" if current.reason else ""
    if current.queued:
        return PhaseDecision(actions, "Running", "StageQueued", f"stage {stage} waits in its queue{why}", stage)
    limit = spec.lifecycle.pending_seconds
    left = current.started_at + timedelta(seconds=limit) - now
    if left <= timedelta():
        message = f"stage {stage} did not start within pendingSeconds {limit}{why}"
        end = EndStage(stage, current.number, EndReason.UNSCHEDULED)
        return PhaseDecision((*actions, end), "Running", "PendingTooLong", message, stage)
    return PhaseDecision(actions, "Running", "StagePending", f"stage {stage} waits for its pods{why}", stage, left)

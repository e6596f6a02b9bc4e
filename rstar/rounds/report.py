"""From the planner's decision to the status that users see: the one place that words conditions, for both drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rstar.rounds.guidance import Guidance
from rstar.rounds.observed import STAGES, Action, Attempt, ManifestRef, Observed, Stage, StartStage
from rstar.rounds.status import (
    AttemptStatus,
    Condition,
    ConditionStatus,
    OutputStatus,
    Phase,
    RoundStatus,
    StageState,
    StageStatus,
    merge_conditions,
)


@dataclass(frozen=True, slots=True)
class PhaseDecision:
    """The planner's decision: the phase, why, and the actions. ``reason`` is CamelCase, ``message`` a sentence."""

    actions: tuple[Action, ...]
    phase: Phase
    reason: str
    message: str
    stage: Stage | None = None
    requeue_after: timedelta | None = None


def report(
    observed: Observed,
    decision: PhaseDecision,
    guidance: Guidance | None,
    inputs: Mapping[str, ManifestRef],
    now: datetime,
) -> RoundStatus:
    """Return the status; ``inputs``: the manifests of the previous round that the rollout reads."""
    stages = tuple(_stage(observed, decision, stage) for stage in STAGES)
    conditions = [_phase_condition(decision, kind, now) for kind in ("Succeeded", "Failed", "Suspended")]
    ready: ConditionStatus = "True" if decision.phase == "Succeeded" or decision.reason == "StageRunning" else "False"
    conditions.insert(0, _condition("Ready", ready, decision.reason, decision.message, now))
    if guidance is not None:
        guides: ConditionStatus = "True" if guidance.guides else "False"
        conditions.append(_condition("PPMGuides", guides, guidance.reason, guidance.message, now))
    for stage, status in zip(STAGES, stages, strict=True):
        conditions.append(_stage_condition(observed, decision, stage, status, now))
    ended = decision.phase in {"Succeeded", "Deleted"}
    whole = RoundStatus(
        phase=decision.phase,
        stage=None if ended or decision.stage is None else decision.stage.value,
        message=decision.message,
        conditions=merge_conditions(observed.conditions, conditions),
        stages=stages,
        inputs={name: OutputStatus(manifest=ref.key, digest=ref.digest) for name, ref in sorted(inputs.items())},
        attempts=tuple(_attempt(attempt) for stage in STAGES for attempt in observed.of(stage)),
    )
    return with_progress(whole, observed.progress if decision.reason == "StageRunning" else {})


def with_progress(status: RoundStatus, progress: Mapping[str, Any]) -> RoundStatus:
    """Return the status with the running stage's current progress; the rest is unchanged."""
    rollout = next((stage for stage in status.stages if stage.name == Stage.ROLLOUT.value and stage.output), None)
    update = {
        "progress": dict(progress),
        "progress_text": f"{progress['done']}/{progress['total']}" if {"done", "total"} <= progress.keys() else "",
        "solved_percent": _solved_percent(rollout.metrics if rollout is not None else progress),
    }
    return status.model_copy(update=update)


def _attempt(attempt: Attempt) -> AttemptStatus:
    return AttemptStatus(
        stage=attempt.stage.value,
        number=attempt.number,
        state=attempt.state.value,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        ending=attempt.ending.value if attempt.ending else None,
    )


def _solved_percent(figures: Mapping[str, Any]) -> str:
    solved, searched = figures.get("solved"), figures.get("problems", figures.get("done"))
    if not isinstance(solved, (int, float)) or not isinstance(searched, (int, float)) or not searched:
        return ""
    return f"{100 * solved / searched:.1f}"


def _condition(kind: str, status: ConditionStatus, reason: str, message: str, now: datetime) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=now)


def _phase_condition(decision: PhaseDecision, kind: str, now: datetime) -> Condition:
    if decision.phase == kind:
        return _condition(kind, "True", decision.reason, decision.message, now)
    return _condition(kind, "False", decision.phase, "", now)


def _stage(observed: Observed, decision: PhaseDecision, stage: Stage) -> StageStatus:
    output = observed.output(stage)
    failures = sum(attempt.counts for attempt in observed.of(stage))
    current = decision.stage is stage
    starting = any(isinstance(action, StartStage) and action.stage is stage for action in decision.actions)
    live = starting or any(attempt.live for attempt in observed.of(stage))
    state: StageState = "waiting"
    if output is not None:
        state = "done"
    elif current and decision.phase == "Failed":
        state = "failed"
    elif live:
        state = "running"
    elif current and (failures or decision.reason == "BackOff"):
        state = "retrying"
    return StageStatus(
        name=stage.value,
        state=state,
        attempts=failures,
        output=OutputStatus(manifest=output.manifest.key, digest=output.manifest.digest) if output else None,
        metrics=dict(output.metrics) if output else {},
        code_version=output.code_version if output else "",
    )


def _stage_condition(
    observed: Observed, decision: PhaseDecision, stage: Stage, status: StageStatus, now: datetime
) -> Condition:
    kind = "Stage" + "".join(part.capitalize() for part in stage.value.split("-"))
    if status.state == "done" and status.output is not None:
        output = observed.output(stage)
        skipped = f"skipped: {output.skipped}; " if output is not None and output.skipped else ""
        return _condition(kind, "True", "Done", f"{skipped}manifest {status.output.manifest}", now)
    reason = status.state.capitalize()
    faults = [attempt for attempt in observed.of(stage) if attempt.counts]
    message = decision.message if decision.stage is stage else ""
    if faults and status.state in {"running", "retrying"}:
        message = f"attempt {faults[-1].number} failed: {faults[-1].reason}"
    return _condition(kind, "False", reason, message, now)

"""From a planner's outcome to the status that users see.

One place that words conditions, so that laptop and cluster say the same. Pure; it refuses to decide:
the outcome comes from ``plan``.
"""

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
class Outcome:
    """What the planner decided: what to do, and in what words. ``reason`` is CamelCase, ``message`` a sentence."""

    actions: tuple[Action, ...]
    phase: Phase
    reason: str
    message: str
    stage: Stage | None = None
    requeue_after: timedelta | None = None


def report(
    observed: Observed, outcome: Outcome, guidance: Guidance | None, inputs: Mapping[str, ManifestRef], now: datetime
) -> RoundStatus:
    """Return the status; ``inputs`` are what the rollout reads of the previous round."""
    stages = tuple(_stage(observed, outcome, stage) for stage in STAGES)
    conditions = [_phase_condition(outcome, kind, now) for kind in ("Succeeded", "Failed", "Suspended")]
    ready: ConditionStatus = "True" if outcome.phase == "Succeeded" or outcome.reason == "StageRunning" else "False"
    conditions.insert(0, _condition("Ready", ready, outcome.reason, outcome.message, now))
    if guidance is not None:
        guides: ConditionStatus = "True" if guidance.ppm else "False"
        conditions.append(_condition("PPMGuides", guides, guidance.reason, guidance.message, now))
    for stage, status in zip(STAGES, stages, strict=True):
        conditions.append(_stage_condition(observed, outcome, stage, status, now))
    ended = outcome.phase in {"Succeeded", "Deleted"}
    whole = RoundStatus(
        phase=outcome.phase,
        stage=None if ended or outcome.stage is None else outcome.stage.value,
        message=outcome.message,
        conditions=merge_conditions(observed.conditions, conditions),
        stages=stages,
        inputs={name: OutputStatus(manifest=ref.key, digest=ref.digest) for name, ref in sorted(inputs.items())},
        attempts=tuple(_attempt(attempt) for stage in STAGES for attempt in observed.of(stage)),
    )
    return with_progress(whole, observed.progress if outcome.reason == "StageRunning" else {})


def with_progress(status: RoundStatus, progress: Mapping[str, Any]) -> RoundStatus:
    """Return the status with what the running stage reports now; the rest of it is as it was."""
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


def _phase_condition(outcome: Outcome, kind: str, now: datetime) -> Condition:
    if outcome.phase == kind:
        return _condition(kind, "True", outcome.reason, outcome.message, now)
    return _condition(kind, "False", outcome.phase, "", now)


def _stage(observed: Observed, outcome: Outcome, stage: Stage) -> StageStatus:
    output = observed.output(stage)
    failures = sum(attempt.counts for attempt in observed.of(stage))
    current = outcome.stage is stage
    starting = any(isinstance(action, StartStage) and action.stage is stage for action in outcome.actions)
    live = starting or any(attempt.live for attempt in observed.of(stage))
    state: StageState = "waiting"
    if output is not None:
        state = "done"
    elif current and outcome.phase == "Failed":
        state = "failed"
    elif live:
        state = "running"
    elif current and (failures or outcome.reason == "BackOff"):
        state = "retrying"
    return StageStatus(
        name=stage.value,
        state=state,
        attempts=failures,
        output=OutputStatus(manifest=output.manifest.key, digest=output.manifest.digest) if output else None,
        metrics=dict(output.metrics) if output else {},
    )


def _stage_condition(
    observed: Observed, outcome: Outcome, stage: Stage, status: StageStatus, now: datetime
) -> Condition:
    kind = "Stage" + "".join(part.capitalize() for part in stage.value.split("-"))
    if status.state == "done" and status.output is not None:
        return _condition(kind, "True", "Done", f"manifest {status.output.manifest}", now)
    reason = status.state.capitalize()
    faults = [attempt for attempt in observed.of(stage) if attempt.counts]
    message = outcome.message if outcome.stage is stage else ""
    if faults and status.state in {"running", "retrying"}:
        message = f"attempt {faults[-1].number} failed: {faults[-1].reason}"
    return _condition(kind, "False", reason, message, now)

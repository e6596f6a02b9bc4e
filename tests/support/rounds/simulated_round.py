"""A simulated round for tests of the planner: it observes, carries out plans and applies events, without processes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rstar.rounds.observed import (
    STAGE_INPUTS,
    STAGES,
    Action,
    Attempt,
    AttemptState,
    EndReason,
    EndStage,
    ManifestRef,
    Observed,
    PreviousRound,
    Service,
    ServiceRef,
    Stage,
    StageOutput,
    StartService,
    StartStage,
    StopService,
)
from rstar.rounds.pair_accuracy import PairAccuracy
from rstar.rounds.plan import Plan, plan
from rstar.rounds.spec import EvolutionRoundSpec

START = datetime(2030, 1, 1, tzinfo=UTC)


def spec(
    round_number: int = 1, *, max_attempts: int = 3, evaluates: bool = True, use: str = "auto"
) -> EvolutionRoundSpec:
    evaluate = {"problems": {"uri": "held-out.jsonl"}, "methods": [{"name": "greedy", "method": "greedy"}]}
    return EvolutionRoundSpec.model_validate(
        {
            "round": round_number,
            "previousRound": "before" if round_number > 1 else None,
            "baseModel": "store:base",
            "problems": {"uri": "train.jsonl"},
            "preferenceModel": {"use": use},
            "evaluate": evaluate if evaluates else {},
            "lifecycle": {"maxAttempts": max_attempts, "backoffSeconds": 7, "deadlineSeconds": 1000},
        }
    )


def output(stage: Stage, accuracy: float = 0.9, **metrics: Any) -> StageOutput:
    """Return a stage's output. The PPM was measured on so many problems that the lower bound is the accuracy."""
    ref = ManifestRef(f"rounds/x/{stage}/0/manifest.json", f"digest-{stage}")
    return StageOutput(ref, PairAccuracy(accuracy, accuracy, 10**6, 10**5).metrics() | metrics)


def done(*stages: Stage) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(stage, 1, AttemptState.SUCCEEDED, START, START, exit_code=0, output=output(stage)) for stage in stages
    )


def previous(accuracy: float = 0.9, **ppm: Any) -> PreviousRound:
    """Return a finished round; ``ppm`` are further metrics of its PPM."""
    outputs = {stage: output(stage, accuracy) for stage in STAGES}
    outputs[Stage.TRAIN_PPM] = output(Stage.TRAIN_PPM, accuracy, **ppm)
    return PreviousRound("succeeded", outputs)


class SimulatedRound:
    """A round whose driver carries out every plan, checks the invariants, and meets scripted events."""

    def __init__(self, round_spec: EvolutionRoundSpec, before: PreviousRound) -> None:
        self.spec = round_spec
        self.now = START
        self.observed = Observed(previous=before)

    def plan(self) -> Plan:
        result = plan(self.spec, "r", self.observed, self.now)
        self.observed = replace(self.observed, conditions=result.status.conditions)
        return result

    def plan_and_apply(self) -> Plan:
        """Carry out the plan; the next plan must have no actions."""
        result = self.plan()
        for action in result.actions:
            self.apply(action)
        self.check_invariants()
        again = self.plan()
        assert again.actions == (), "the plan after a plan that was carried out has no actions"
        return result

    def apply(self, action: Action) -> None:
        if isinstance(action, StartService):
            before = next((s for s in self.observed.services if s.ref == action.ref), None)
            assert before is None or before.state == "failed"
            ready = {s.ref for s in self.observed.services if s.state == "ready"}
            assert set(action.ref.upstream) <= ready, "a coordinator starts after the services that it calls"
            started = Service(action.ref, "starting", self.now, failures=before.failures if before else 0)
            self.replace_service(action.ref, started)
        elif isinstance(action, StopService):
            before = next(s for s in self.observed.services if s.ref == action.ref)
            self.replace_service(action.ref, replace(before, state="stopping"))
        elif isinstance(action, StartStage):
            self.check_start(action)
            attempt = Attempt(action.stage, action.attempt, AttemptState.RUNNING, self.now)
            self.observed = replace(self.observed, attempts=(*self.observed.attempts, attempt))
        elif isinstance(action, EndStage):
            self.replace_attempt(action.stage, action.attempt, ending=action.reason)

    def check_start(self, start: StartStage) -> None:
        for needed in STAGE_INPUTS[start.stage].values():
            done = self.observed.output(needed)
            assert done is not None, "no stage starts before its inputs exist"
            assert done.manifest in dict(start.inputs).values()
        assert all(self.observed.output(s) for s in STAGES[: STAGES.index(start.stage)])
        assert self.observed.output(start.stage) is None
        if start.search is None:
            assert not self.observed.services, "a stage that does not search starts without services"
        else:
            assert all(s.state == "ready" for s in self.observed.services)
            assert start.search in {s.ref for s in self.observed.services}

    def check_invariants(self) -> None:
        live = [a for a in self.observed.attempts if a.live]
        assert len(live) <= 1, "never two attempts at once"
        for stage in STAGES:
            faults = sum(a.counts for a in self.observed.of(stage))
            running = sum(a.live and a.ending is None for a in self.observed.of(stage))
            assert faults + running <= self.spec.lifecycle.max_attempts

    def replace_service(self, ref: ServiceRef, service: Service | None) -> None:
        others = tuple(s for s in self.observed.services if s.ref != ref)
        self.observed = replace(self.observed, services=(*others, service) if service else others)

    def replace_attempt(self, stage: Stage, number: int, **changes: Any) -> None:
        attempts = tuple(
            replace(a, **changes) if (a.stage, a.number) == (stage, number) else a for a in self.observed.attempts
        )
        self.observed = replace(self.observed, attempts=attempts)

    def happen(self, event: str, which: int) -> None:
        """Apply one event to the clock, an attempt or a service. Without a live attempt its event is for a service."""
        live = [a for a in self.observed.attempts if a.live]
        services = self.observed.services
        if event == "tick":
            self.now += timedelta(seconds=1 + which)
        elif event == "jump":
            self.now += timedelta(seconds=400 * (1 + which))
        elif event.startswith("attempt") and live:
            self.finish(live[which % len(live)], event)
        elif services:
            service = services[which % len(services)]
            if service.state == "stopping":
                self.replace_service(service.ref, None)
            elif event == "service-failed":
                failed = replace(service, state="failed", since=self.now, failures=service.failures + 1, exit_code=1)
                self.replace_service(service.ref, failed)
            elif service.state == "starting":
                self.replace_service(service.ref, replace(service, state="ready", failures=0))

    def finish(self, attempt: Attempt, event: str) -> None:
        changes: dict[str, dict[str, Any]] = {
            "attempt-done": {"state": AttemptState.SUCCEEDED, "exit_code": 0, "output": output(attempt.stage)},
            "attempt-without-manifest": {"state": AttemptState.SUCCEEDED, "exit_code": 0},
            "attempt-failed": {"state": AttemptState.FAILED, "exit_code": 1, "reason": "boom"},
            "attempt-refused": {"state": AttemptState.FAILED, "exit_code": 2, "reason": "bad input"},
            "attempt-lost": {"state": AttemptState.FAILED, "ending": attempt.ending or EndReason.LOST},
        }
        self.replace_attempt(attempt.stage, attempt.number, finished_at=self.now, **changes[event])

    def run(self, passes: int, events: list[tuple[str, int]]) -> None:
        """Reach some state: ``passes`` in which everything succeeds, then one pass before each of the ``events``."""
        for _ in range(passes):
            self.plan_and_apply()
            self.succeed()
        for event, which in events:
            self.plan_and_apply()
            self.happen(event, which)

    def succeed(self) -> None:
        """Let attempts end well, services become ready or stop, and the backoff pass."""
        for attempt in self.observed.attempts:
            if attempt.live:
                self.finish(attempt, "attempt-failed" if attempt.ending else "attempt-done")
        for number, _ in enumerate(self.observed.services):
            self.happen("service-ready", number)
        planned = self.plan()
        ready = planned.status.condition("Ready")
        backs_off = ready is not None and ready.reason == "BackOff"
        self.now += planned.requeue_after if planned.requeue_after and backs_off else timedelta(seconds=10)

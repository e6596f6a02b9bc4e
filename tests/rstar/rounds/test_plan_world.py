"""The planner in a simulated world that fails, hangs, loses machines and jumps in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

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
from rstar.rounds.plan import Plan, plan
from rstar.rounds.spec import EvolutionRoundSpec

START = datetime(2030, 1, 1, tzinfo=UTC)
ENDED = {"Succeeded", "Failed"}


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


def output(stage: Stage, accuracy: float = 0.9) -> StageOutput:
    return StageOutput(ManifestRef(f"rounds/x/{stage}/0/manifest.json", f"digest-{stage}"), {"pair_accuracy": accuracy})


def previous(accuracy: float = 0.9) -> PreviousRound:
    return PreviousRound("succeeded", {stage: output(stage, accuracy) for stage in STAGES})


class World:
    """Applies actions, checks what must always hold, and lets fate have its say."""

    def __init__(self, round_spec: EvolutionRoundSpec, before: PreviousRound) -> None:
        self.spec = round_spec
        self.now = START
        self.observed = Observed(previous=before)

    def plan(self) -> Plan:
        result = plan(self.spec, "r", self.observed, self.now)
        self.observed = replace(self.observed, conditions=result.status.conditions)
        return result

    def turn(self) -> Plan:
        result = self.plan()
        for action in result.actions:
            self.apply(action)
        self.check_invariants()
        again = self.plan()
        assert again.actions == (), "a plan repeated right after applying it asks for nothing"
        return result

    def apply(self, action: Action) -> None:
        if isinstance(action, StartService):
            seen = next((s for s in self.observed.services if s.ref == action.ref), None)
            assert seen is None or seen.state == "failed"
            ready = {s.ref for s in self.observed.services if s.state == "ready"}
            assert set(action.ref.upstream) <= ready, "a coordinator starts after what it calls"
            started = Service(action.ref, "starting", self.now, failures=seen.failures if seen else 0)
            self.replace_service(action.ref, started)
        elif isinstance(action, StopService):
            seen = next(s for s in self.observed.services if s.ref == action.ref)
            self.replace_service(action.ref, replace(seen, state="stopping"))
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
            assert not self.observed.services, "services are freed before work that does not search"
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

    def happen(self, fate: str, which: int) -> None:
        """One event of the outside world; a fate that finds no attempt meets the services."""
        live = [a for a in self.observed.attempts if a.live]
        services = self.observed.services
        if fate == "tick":
            self.now += timedelta(seconds=1 + which)
        elif fate == "jump":
            self.now += timedelta(seconds=400 * (1 + which))
        elif fate.startswith("attempt") and live:
            self.finish(live[which % len(live)], fate)
        elif services:
            service = services[which % len(services)]
            if service.state == "stopping":
                self.replace_service(service.ref, None)
            elif fate == "service-failed":
                failed = replace(service, state="failed", since=self.now, failures=service.failures + 1, exit_code=1)
                self.replace_service(service.ref, failed)
            elif service.state == "starting":
                self.replace_service(service.ref, replace(service, state="ready", failures=0))

    def finish(self, attempt: Attempt, fate: str) -> None:
        fates: dict[str, dict[str, Any]] = {
            "attempt-done": {"state": AttemptState.SUCCEEDED, "exit_code": 0, "output": output(attempt.stage)},
            "attempt-hollow": {"state": AttemptState.SUCCEEDED, "exit_code": 0},
            "attempt-failed": {"state": AttemptState.FAILED, "exit_code": 1, "reason": "boom"},
            "attempt-refused": {"state": AttemptState.FAILED, "exit_code": 2, "reason": "bad input"},
            "attempt-lost": {"state": AttemptState.FAILED, "ending": attempt.ending or EndReason.LOST},
        }
        self.replace_attempt(attempt.stage, attempt.number, finished_at=self.now, **fates[fate])

    def live_through(self, kind_turns: int, events: list[tuple[str, int]]) -> None:
        """Reach some state: first a while of good luck, then whatever comes."""
        for _ in range(kind_turns):
            self.turn()
            self.kindly()
        for fate, which in events:
            self.turn()
            self.happen(fate, which)

    def kindly(self) -> None:
        """What happens to everything that waits, if fate is kind: attempts end, services come and go."""
        for attempt in self.observed.attempts:
            if attempt.live:
                self.finish(attempt, "attempt-failed" if attempt.ending else "attempt-done")
        for number, _ in enumerate(self.observed.services):
            self.happen("service-ready", number)
        planned = self.plan()
        ready = planned.status.condition("Ready")
        backs_off = ready is not None and ready.reason == "BackOff"
        self.now += planned.requeue_after if planned.requeue_after and backs_off else timedelta(seconds=10)


FATES = st.sampled_from(
    [
        "tick",
        "jump",
        "attempt-done",
        "attempt-done",
        "attempt-failed",
        "attempt-hollow",
        "attempt-lost",
        "attempt-refused",
        "service-ready",
        "service-ready",
        "service-ready",
        "service-failed",
    ]
)
EVENTS = st.lists(st.tuples(FATES, st.integers(0, 5)), max_size=60)
KIND_TURNS = st.integers(0, 25)
SPECS = st.builds(
    spec,
    st.integers(1, 4),
    max_attempts=st.integers(1, 3),
    evaluates=st.booleans(),
    use=st.sampled_from(["auto", "never"]),
)


@settings(max_examples=150, deadline=None)
@given(SPECS, st.floats(0.5, 1.0), KIND_TURNS, EVENTS)
@example(spec(1, max_attempts=1, evaluates=False, use="auto"), 1.0, 3, [("service-failed", 0), ("service-ready", 0)])
def test_from_any_reachable_state_the_round_reaches_an_end(
    round_spec: EvolutionRoundSpec, accuracy: float, kind_turns: int, events: list[tuple[str, int]]
) -> None:
    world = World(round_spec, previous(accuracy))
    world.live_through(kind_turns, events)
    for _ in range(300):
        ended = world.turn().status.phase in ENDED
        # What has been told to end may take its time.
        if ended and not world.observed.services and not any(a.live for a in world.observed.attempts):
            break
        world.kindly()
    final = world.plan()
    assert final.status.phase in ENDED
    assert final.actions == ()
    assert final.requeue_after is None
    assert not world.observed.services
    assert not any(a.live for a in world.observed.attempts)


@settings(max_examples=100, deadline=None)
@given(SPECS, KIND_TURNS, EVENTS, st.booleans())
def test_suspending_releases_everything_and_is_a_fixpoint_until_resumed(
    round_spec: EvolutionRoundSpec, kind_turns: int, events: list[tuple[str, int]], deleted: bool
) -> None:
    world = World(round_spec, previous())
    world.live_through(kind_turns, events)
    world.turn()
    # An attempt that is being ended for its deadline when the suspension comes has failed already.
    faults = {
        stage: sum(a.counts or (a.live and a.ending is EndReason.DEADLINE) for a in world.observed.of(stage))
        for stage in STAGES
    }
    world.observed = replace(world.observed, suspended=not deleted, deleted=deleted)
    for _ in range(4):
        world.turn()
        world.kindly()
    assert not world.observed.services
    assert not any(a.live for a in world.observed.attempts)
    assert world.turn().actions == ()
    status = world.plan().status
    assert status.phase in ({"Deleted"} if deleted else {"Suspended", *ENDED})
    if status.phase == "Suspended":
        after = {stage: sum(a.counts for a in world.observed.of(stage)) for stage in STAGES}
        assert after == faults, "being suspended is nobody's failure"
        world.observed = replace(world.observed, suspended=False)
        for _ in range(200):
            if world.turn().status.phase in ENDED:
                break
            world.kindly()
        assert world.plan().status.phase == "Succeeded"

"""The planner with pods that do not start, admission queues, shared services, and cancelled rounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rstar.rounds.observed import (
    Attempt,
    AttemptState,
    EndReason,
    EndStage,
    Observed,
    Service,
    ServiceKind,
    Stage,
    StartService,
    StopService,
)
from rstar.rounds.plan import plan
from rstar.rounds.services import executor_service
from rstar.rounds.spec import EvolutionRoundSpec
from tests.support.rounds.simulated_round import START, SimulatedRound, output, previous, spec


def pending(seconds: float, **changes: object) -> Observed:
    """Return a rollout that has waited ``seconds`` for its pods, with every service ready."""
    simulated = SimulatedRound(spec(), previous())
    for _ in range(4):
        simulated.plan_and_apply()
        for service in simulated.observed.services:
            simulated.replace_service(service.ref, replace(service, state="ready"))
    since = simulated.now - timedelta(seconds=seconds)
    attempt = replace(Attempt(Stage.ROLLOUT, 1, AttemptState.PENDING, since), **changes)  # type: ignore[arg-type]
    return replace(simulated.observed, attempts=(attempt,))


def spec_with_pending_seconds(limit: int = 100) -> EvolutionRoundSpec:
    plain = spec()
    return plain.model_copy(update={"lifecycle": plain.lifecycle.model_copy(update={"pending_seconds": limit})})


def test_the_status_of_a_pending_attempt_says_what_it_waits_for() -> None:
    status = plan(spec_with_pending_seconds(), "r", pending(10, reason="0/3 nodes have a free GPU"), START).status
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "StagePending")
    assert "0/3 nodes have a free GPU" in status.message


def test_an_attempt_whose_pods_do_not_start_in_time_is_ended_and_counts() -> None:
    planned = plan(spec_with_pending_seconds(), "r", pending(100), START)
    assert planned.actions == (EndStage(Stage.ROLLOUT, 1, EndReason.UNSCHEDULED),)
    ended = Attempt(Stage.ROLLOUT, 1, AttemptState.FAILED, START, START, ending=EndReason.UNSCHEDULED)
    assert ended.counts


def test_the_planner_looks_again_when_the_pending_time_is_over() -> None:
    planned = plan(spec_with_pending_seconds(), "r", pending(40), START)
    assert planned.actions == ()
    assert planned.requeue_after == timedelta(seconds=60)


def test_time_in_an_admission_queue_does_not_count() -> None:
    planned = plan(spec_with_pending_seconds(), "r", pending(10_000, queued=True), START)
    assert planned.actions == ()
    ready = planned.status.condition("Ready")
    assert ready is not None
    assert ready.reason == "StageQueued"


def shared(state: str, reason: str = "") -> Observed:
    service = Service(executor_service(spec()), state, START, reason=reason, shared=True)  # type: ignore[arg-type]
    return Observed(services=(service,))


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_a_shared_service_is_never_started_or_stopped(state: str) -> None:
    for changes in ({}, {"suspend": True}, {"cancel": True}):
        planned = plan(spec().model_copy(update=changes), "r", shared(state), START)
        kinds = {a.ref.kind for a in planned.actions if isinstance(a, StartService | StopService)}
        assert ServiceKind.EXECUTOR not in kinds


def test_a_round_waits_for_a_shared_service_without_limit_and_says_why() -> None:
    much_later = START + timedelta(days=400)
    status = plan(spec(), "r", shared("starting", "none is installed in this namespace"), much_later).status
    assert "executor (none is installed in this namespace)" in status.message
    assert status.phase == "Running"


def test_a_cancelled_round_fails_and_keeps_its_finished_stages() -> None:
    done = Attempt(Stage.ROLLOUT, 1, AttemptState.SUCCEEDED, START, START, exit_code=0, output=output(Stage.ROLLOUT))
    running = Attempt(Stage.SELECT, 1, AttemptState.RUNNING, START)
    planned = plan(spec().model_copy(update={"cancel": True}), "r", Observed(attempts=(done, running)), START)
    assert planned.actions == (EndStage(Stage.SELECT, 1, EndReason.CANCELLED),)
    failed = planned.status.condition("Failed")
    assert failed is not None
    assert (failed.status, failed.reason) == ("True", "Cancelled")
    assert planned.status.stages[0].output is not None


def test_the_status_lists_every_attempt_and_the_share_of_solved_problems() -> None:
    attempt = Attempt(Stage.ROLLOUT, 2, AttemptState.RUNNING, START)
    progress = {"done": 20, "total": 80, "solved": 5}
    status = plan(spec(), "r", replace(pending(0), attempts=(attempt,), progress=progress), START).status
    assert [(a.stage, a.number, a.state) for a in status.attempts] == [("rollout", 2, "running")]
    assert status.progress_text == "20/80"
    assert status.solved_percent == "25.0"

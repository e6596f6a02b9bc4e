"""What the planner makes of pods that do not start, of queues, of services that others keep, and of cancelling."""

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
from tests.rstar.rounds.test_plan_world import START, World, output, previous, spec


def pending(seconds: float, **changes: object) -> Observed:
    """Return a rollout that has waited for its pods for so long, with every service ready."""
    world = World(spec(), previous())
    for _ in range(4):
        world.turn()
        for service in world.observed.services:
            world.replace_service(service.ref, replace(service, state="ready"))
    since = world.now - timedelta(seconds=seconds)
    attempt = replace(Attempt(Stage.ROLLOUT, 1, AttemptState.PENDING, since), **changes)  # type: ignore[arg-type]
    return replace(world.observed, attempts=(attempt,))


def patient(limit: int = 100) -> object:
    plain = spec()
    return plain.model_copy(update={"lifecycle": plain.lifecycle.model_copy(update={"pending_seconds": limit})})


def test_a_pending_attempt_says_what_it_waits_for_and_is_not_ready() -> None:
    status = plan(patient(), "r", pending(10, reason="0/3 nodes have a free GPU"), START).status  # type: ignore[arg-type]
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "StagePending")
    assert "0/3 nodes have a free GPU" in status.message


def test_an_attempt_whose_pods_never_start_is_ended_and_counts() -> None:
    planned = plan(patient(), "r", pending(100), START)  # type: ignore[arg-type]
    assert planned.actions == (EndStage(Stage.ROLLOUT, 1, EndReason.UNSCHEDULED),)
    ended = Attempt(Stage.ROLLOUT, 1, AttemptState.FAILED, START, START, ending=EndReason.UNSCHEDULED)
    assert ended.counts


def test_before_its_time_is_up_a_pending_attempt_is_looked_at_again_when_it_is() -> None:
    planned = plan(patient(), "r", pending(40), START)  # type: ignore[arg-type]
    assert planned.actions == ()
    assert planned.requeue_after == timedelta(seconds=60)


def test_time_in_a_queue_does_not_count() -> None:
    planned = plan(patient(), "r", pending(10_000, queued=True), START)  # type: ignore[arg-type]
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


def test_the_status_says_why_a_shared_service_is_missing_and_never_gives_up_on_it() -> None:
    much_later = START + timedelta(days=400)
    status = plan(spec(), "r", shared("starting", "none is installed in this namespace"), much_later).status
    assert "executor (none is installed in this namespace)" in status.message
    assert status.phase == "Running"


def test_cancelling_ends_the_round_for_good_and_keeps_what_is_done() -> None:
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

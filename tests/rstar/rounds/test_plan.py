"""Single decisions of the planner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rstar.rounds.observed import (
    STAGES,
    Attempt,
    AttemptState,
    EndReason,
    EndStage,
    Observed,
    PreviousRound,
    Service,
    ServiceKind,
    Stage,
    StartService,
    StartStage,
    StopService,
)
from rstar.rounds.plan import plan
from rstar.rounds.services import LONGEST_BACKOFF, backoff
from tests.rstar.rounds.test_plan_world import START, World, output, previous, spec


def failed(stage: Stage, number: int, **changes: object) -> Attempt:
    attempt = Attempt(stage, number, AttemptState.FAILED, START, START, exit_code=1, reason="boom")
    return replace(attempt, **changes)  # type: ignore[arg-type]


def done(*stages: Stage) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(stage, 1, AttemptState.SUCCEEDED, START, START, exit_code=0, output=output(stage)) for stage in stages
    )


def phases_of_services(world: World) -> dict[str, str]:
    return {service.ref.kind.value: service.state for service in world.observed.services}


def test_round_1_searches_with_the_base_model_and_the_bootstrap_prompt() -> None:
    actions = plan(spec(1), "r1", Observed(), START).actions
    starts = {a.ref.kind: a.ref for a in actions if isinstance(a, StartService)}
    assert set(starts) == {ServiceKind.POLICY, ServiceKind.EXECUTOR}
    policy = starts[ServiceKind.POLICY]
    assert policy.model is not None
    assert policy.model.uri == "store:base"
    assert policy.prompt == "bootstrap"


def test_a_later_round_searches_with_the_previous_policy() -> None:
    actions = plan(spec(2), "r2", Observed(previous=previous()), START).actions
    model = next(a.ref.model for a in actions if isinstance(a, StartService) and a.ref.kind is ServiceKind.POLICY)
    assert model is not None
    assert model.uri == "store:rounds/x/train-policy/0/checkpoint"
    assert model.digest == "digest-train-policy"


@pytest.mark.parametrize(
    ("number", "use", "accuracy", "guides", "reason"),
    [
        (2, "auto", 0.9, "False", "EarlyRound"),
        (3, "auto", 0.59, "False", "PairAccuracyTooLow"),
        (3, "auto", 0.6, "True", "PairAccuracyReached"),
        (3, "never", 0.9, "False", "Never"),
        (2, "always", 0.5, "True", "Always"),
    ],
)
def test_whether_the_ppm_guides_is_decided_by_its_pair_accuracy_and_said(
    number: int, use: str, accuracy: float, guides: str, reason: str
) -> None:
    planned = plan(spec(number, use=use), "r", Observed(previous=previous(accuracy)), START)
    condition = planned.status.condition("PPMGuides")
    assert condition is not None
    assert (condition.status, condition.reason) == (guides, reason)
    kinds = {a.ref.kind for a in planned.actions if isinstance(a, StartService)}
    assert (ServiceKind.PPM in kinds) == (guides == "True")
    if use == "auto" and number == 3:
        assert f"{accuracy:.3f}" in condition.message
        assert "0.6" in condition.message


def test_always_without_a_previous_ppm_is_an_error() -> None:
    status = plan(spec(1, use="always"), "r1", Observed(), START).status
    assert status.phase == "Failed"
    assert status.condition("Failed").reason == "NoPreviousPPM"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("state", "phase", "reason"),
    [
        ("missing", "Waiting", "PreviousRoundNotReady"),
        ("running", "Waiting", "PreviousRoundNotReady"),
        ("failed", "Failed", "PreviousRoundFailed"),
    ],
)
def test_a_round_waits_for_the_one_before_and_fails_with_it(state: str, phase: str, reason: str) -> None:
    planned = plan(spec(2), "r2", Observed(previous=PreviousRound(state)), START)  # type: ignore[arg-type]
    assert planned.actions == ()
    assert planned.status.phase == phase
    assert planned.status.condition("Ready").reason == reason  # type: ignore[union-attr]
    assert "before" in planned.status.message
    assert (planned.requeue_after is not None) == (phase == "Waiting")


def test_a_finished_round_no_longer_looks_at_the_one_before() -> None:
    observed = Observed(attempts=done(*STAGES), previous=PreviousRound("missing"))
    assert plan(spec(2), "r2", observed, START).status.phase == "Succeeded"


def test_retries_back_off_exponentially_from_the_last_failure() -> None:
    observed = Observed(attempts=(*done(Stage.ROLLOUT), failed(Stage.SELECT, 1), failed(Stage.SELECT, 2)))
    early = plan(spec(1), "r", observed, START + timedelta(seconds=13))
    assert early.actions == ()
    assert early.requeue_after == timedelta(seconds=1)
    assert early.status.condition("Ready").reason == "BackOff"  # type: ignore[union-attr]
    late = plan(spec(1), "r", observed, START + timedelta(seconds=14))
    assert [a.attempt for a in late.actions if isinstance(a, StartStage)] == [3]


def test_no_backoff_is_longer_than_six_hours() -> None:
    assert backoff(spec().lifecycle, 100) == LONGEST_BACKOFF


def test_exit_code_2_ends_the_round_at_once() -> None:
    observed = Observed(attempts=(failed(Stage.ROLLOUT, 1, exit_code=2, reason="line 3 has no question"),))
    status = plan(spec(1), "r", observed, START + timedelta(days=1)).status
    assert status.phase == "Failed"
    assert status.condition("Failed").reason == "BadInput"  # type: ignore[union-attr]
    assert "line 3 has no question" in status.message


def lost(number: int, **changes: object) -> Attempt:
    return failed(Stage.SELECT, number, exit_code=None, reason="its node went away", ending=EndReason.LOST, **changes)


def after_rollout(*attempts: Attempt) -> Observed:
    return Observed(attempts=(*done(Stage.ROLLOUT), *attempts))


def test_attempts_whose_machines_go_away_never_count_but_wait_ever_longer() -> None:
    for losses, pause in ((1, 7), (2, 14), (6, 224), (60, LONGEST_BACKOFF.total_seconds())):
        observed = after_rollout(*(lost(number) for number in range(1, losses + 1)))
        early = plan(spec(1, max_attempts=1), "r", observed, START + timedelta(seconds=pause - 1))
        assert early.actions == ()
        assert early.requeue_after == timedelta(seconds=1)
        ready = early.status.condition("Ready")
        assert ready is not None
        assert (ready.reason, ready.message.partition(": ")[2]) == ("BackOff", "its node went away")
        select = next(stage for stage in early.status.stages if stage.name == "select")
        assert (select.state, select.attempts) == ("retrying", 0)
        late = plan(spec(1, max_attempts=1), "r", observed, START + timedelta(seconds=pause))
        assert [a.attempt for a in late.actions if isinstance(a, StartStage)] == [losses + 1]


def test_an_attempt_that_was_lost_after_long_work_is_repeated_at_once() -> None:
    now = START + timedelta(seconds=15)
    observed = after_rollout(lost(1), lost(2, finished_at=now))
    assert [a.attempt for a in plan(spec(1), "r", observed, now).actions if isinstance(a, StartStage)] == [3]


def test_losses_and_failures_do_not_lengthen_each_other() -> None:
    observed = after_rollout(lost(1), lost(2), failed(Stage.SELECT, 3))
    waits = plan(spec(1), "r", observed, START)
    assert waits.requeue_after == timedelta(seconds=14)
    begun = START + timedelta(seconds=14)
    observed = after_rollout(failed(Stage.SELECT, 1), lost(2, started_at=begun, finished_at=begun))
    assert plan(spec(1), "r", observed, begun).requeue_after == timedelta(seconds=7)


def test_a_deadline_ends_the_attempt_once_and_counts() -> None:
    running = Attempt(Stage.SELECT, 1, AttemptState.RUNNING, START)
    late = START + timedelta(seconds=1000)
    planned = plan(spec(1), "r", Observed(attempts=(*done(Stage.ROLLOUT), running)), late)
    assert planned.actions == (EndStage(Stage.SELECT, 1, EndReason.DEADLINE),)
    ending = Observed(attempts=(*done(Stage.ROLLOUT), replace(running, ending=EndReason.DEADLINE)))
    assert plan(spec(1), "r", ending, late).actions == ()
    assert failed(Stage.SELECT, 1, ending=EndReason.DEADLINE).counts


def test_training_waits_until_every_service_is_gone() -> None:
    world = World(spec(1), PreviousRound())
    world.observed = replace(world.observed, attempts=done(Stage.ROLLOUT, Stage.SELECT))
    ref = next(a.ref for a in plan(spec(1), "r", Observed(), START).actions if isinstance(a, StartService))
    world.replace_service(ref, Service(ref, "ready", START))
    assert world.turn().actions == (StopService(ref),)
    assert phases_of_services(world) == {"policy": "stopping"}
    world.happen("service-gone", 0)
    assert isinstance(world.turn().actions[0], StartStage)


def test_evaluation_without_problems_starts_no_service() -> None:
    observed = Observed(attempts=done(*STAGES[:-1]))
    actions = plan(spec(1, evaluates=False), "r", observed, START).actions
    assert [type(a) for a in actions] == [StartStage]


def test_the_status_tells_lineage_by_digest_and_when_conditions_changed() -> None:
    observed = Observed(attempts=done(Stage.ROLLOUT), previous=previous())
    first = plan(spec(2), "r2", observed, START).status
    assert first.inputs["policy"].digest == "digest-train-policy"
    assert first.stages[0].output is not None
    assert first.stages[0].output.digest == "digest-rollout"
    later = plan(spec(2), "r2", replace(observed, conditions=first.conditions), START + timedelta(hours=1)).status
    assert later.condition("StageRollout") == first.condition("StageRollout")
    assert later.condition("StageRollout").last_transition_time == START  # type: ignore[union-attr]

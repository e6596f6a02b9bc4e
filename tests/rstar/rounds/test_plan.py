"""Single decisions of the planner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rstar.rounds.observed import (
    STAGES,
    Attempt,
    AttemptState,
    EndpointRef,
    EndReason,
    EndStage,
    ModelRef,
    ModelServing,
    Observed,
    PreviousRound,
    SecretRef,
    Service,
    ServiceKind,
    ServiceRef,
    Stage,
    StartService,
    StartStage,
    StopService,
)
from rstar.rounds.pair_accuracy import pair_accuracy
from rstar.rounds.plan import Plan, plan
from rstar.rounds.services import LONGEST_BACKOFF, backoff, checkpoint, needed_services
from rstar.rounds.spec import EvolutionRoundSpec
from tests.support.rounds.simulated_round import START, SimulatedRound, done, output, previous, spec


def failed(stage: Stage, number: int, **changes: object) -> Attempt:
    attempt = Attempt(stage, number, AttemptState.FAILED, START, START, exit_code=1, reason="boom")
    return replace(attempt, **changes)  # type: ignore[arg-type]


def states_of_services(simulated: SimulatedRound) -> dict[str, str]:
    return {service.ref.kind.value: service.state for service in simulated.observed.services}


def test_round_1_searches_with_the_base_model_and_the_bootstrap_prompt() -> None:
    actions = plan(spec(1), "r1", Observed(), START).actions
    starts = {a.ref.kind: a.ref for a in actions if isinstance(a, StartService)}
    assert set(starts) == {ServiceKind.POLICY, ServiceKind.EXECUTOR}
    policy = starts[ServiceKind.POLICY]
    assert policy.model is not None
    assert policy.model.uri == "store:base"
    assert policy.prompt == "bootstrap"


ENDPOINT = {
    "endpoint": "https://llm.example.com/v1",
    "name": "large",
    "apiKeyEnv": "LLM_KEY",
    "apiKeySecret": {"name": "llm", "key": "api-key"},
}


def with_rollout_policy(number: int, searching: dict[str, object], **services: object) -> EvolutionRoundSpec:
    content = spec(number).model_dump(by_alias=True, exclude_unset=True)
    return EvolutionRoundSpec.model_validate({**content, "rollout": {"policy": searching}, "services": services})


def policy_of(spec: EvolutionRoundSpec, stage: Stage) -> ServiceRef:
    inputs = {"policy": output(Stage.TRAIN_POLICY).manifest} if stage is Stage.EVALUATE else {}
    return next(ref for ref in needed_services(spec, "r", stage, inputs) if ref.kind is ServiceKind.POLICY)


@pytest.mark.parametrize("number", [1, 2])
def test_another_checkpoint_searches_in_the_rollout_alone_and_is_not_trained(number: int) -> None:
    given = with_rollout_policy(number, {"model": "hf:org/large"}, policy={"engine": "vllm"})
    planned = plan(given, "r", Observed(previous=previous()), START)
    policy = next(a.ref for a in planned.actions if isinstance(a, StartService) and a.ref.kind is ServiceKind.POLICY)
    assert policy == policy_of(given, Stage.ROLLOUT)
    assert (policy.model, policy.prompt, policy.serving.engine) == (
        ModelRef("hf:org/large", round_name="r"),
        "bootstrap",
        "vllm",
    )
    assert "policy" not in planned.status.inputs
    evaluated = policy_of(given, Stage.EVALUATE)
    assert (evaluated.model, evaluated.prompt) == (checkpoint(output(Stage.TRAIN_POLICY).manifest), "trained")


def test_a_prompt_of_the_users_is_for_the_rollout_alone() -> None:
    content = spec(1).model_dump(by_alias=True, exclude_unset=True)
    given = EvolutionRoundSpec.model_validate({**content, "rollout": {"prompt": "chat", "promptFile": "store:p.txt"}})
    policy = policy_of(given, Stage.ROLLOUT)
    assert (policy.prompt, policy.prompt_file) == ("chat", "store:p.txt")
    evaluated = policy_of(given, Stage.EVALUATE)
    assert (evaluated.prompt, evaluated.prompt_file) == ("trained", None)


def test_an_endpoint_searches_in_the_rollout_without_a_model_of_the_round() -> None:
    given = with_rollout_policy(1, ENDPOINT, policy={"engine": "vllm", "tensorParallel": 8})
    policy = policy_of(given, Stage.ROLLOUT)
    secret = SecretRef("llm", "api-key")
    assert policy.endpoint == EndpointRef("https://llm.example.com/v1", "large", None, "LLM_KEY", secret)
    assert policy.model is None
    assert policy.serving == ModelServing()
    assert policy_of(given, Stage.EVALUATE).endpoint is None
    for tokenizer, fixed_by in (("hf:org/large", "r"), ("store:tokenizer", "")):
        endpoint = policy_of(with_rollout_policy(1, {**ENDPOINT, "tokenizer": tokenizer}), Stage.ROLLOUT).endpoint
        assert endpoint is not None
        assert (endpoint.tokenizer, endpoint.round_name) == (tokenizer, fixed_by)


def with_given_ppm(number: int, methods: list[dict[str, str]]) -> EvolutionRoundSpec:
    content = spec(number).model_dump(by_alias=True, exclude_unset=True)
    content["preferenceModel"] = {"model": {"uri": "hf:org/prm", "convention": "qwen-prm"}}
    content["evaluate"]["methods"] = methods
    return EvolutionRoundSpec.model_validate(content)


def ppms(spec: EvolutionRoundSpec, stage: Stage) -> list[ServiceRef]:
    return [ref for ref in needed_services(spec, "r", stage, {}) if ref.kind is ServiceKind.PPM]


@pytest.mark.parametrize("number", [1, 2])
def test_a_given_reward_model_guides_from_round_1_on_and_none_is_trained(number: int) -> None:
    given = with_given_ppm(number, [{"name": "best", "method": "best_of_n", "guidance": "ppm"}])
    planned = plan(given, "r", Observed(previous=previous()), START)
    condition = planned.status.condition("PPMGuides")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "GivenModel")
    assert "hf:org/prm" in condition.message
    assert "ppm" not in planned.status.inputs
    expected = ServiceRef(ServiceKind.PPM, ModelRef("hf:org/prm", round_name="r"), convention="qwen-prm")
    assert ppms(given, Stage.ROLLOUT) == ppms(given, Stage.EVALUATE) == [expected]
    assert not given.trains_ppm


def test_a_given_reward_model_is_served_in_the_evaluation_only_for_guided_methods() -> None:
    given = with_given_ppm(1, [{"name": "greedy", "method": "greedy"}])
    assert [len(ppms(given, stage)) for stage in (Stage.ROLLOUT, Stage.EVALUATE)] == [1, 0]


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
def test_the_ppm_guides_by_its_pair_accuracy_and_the_status_says_why(
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


def test_a_ppm_that_was_measured_on_few_problems_does_not_guide_and_the_status_says_how_many_are_needed() -> None:
    few = pair_accuracy((f"p{i % 10}", i % 40 >= 8) for i in range(40))
    assert few is not None
    assert (few.accuracy, few.pairs, few.problems) == (0.8, 40, 10)
    before = previous()
    outputs = {**before.outputs, Stage.TRAIN_PPM: replace(output(Stage.TRAIN_PPM), metrics=few.metrics())}
    condition = plan(spec(3), "r", Observed(previous=replace(before, outputs=outputs)), START).status.condition(
        "PPMGuides"
    )
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "TooFewPairs")
    assert "0.800 on 40 step pairs of 10 problems, 95 % lower bound 0.541" in condition.message
    assert "below minPairAccuracy 0.6: at this accuracy about 17 such problems would show it" in condition.message


def test_without_held_out_pairs_a_ppm_does_not_guide_and_the_status_says_what_to_change() -> None:
    observed = Observed(previous=previous(pair_accuracy=None, pair_accuracy_low=None))
    condition = plan(spec(3), "r", observed, START).status.condition("PPMGuides")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "NotMeasured")
    assert "a larger select.heldOutFraction" in condition.message


WITHOUT_PPM = "there is no preference pair, so no PPM was trained"


def test_after_a_round_without_a_ppm_the_search_is_unguided_and_the_status_says_why() -> None:
    planned = plan(spec(3), "r", Observed(previous=previous(skipped=WITHOUT_PPM)), START)
    condition = planned.status.condition("PPMGuides")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "NotTrained")
    assert WITHOUT_PPM in condition.message
    assert ServiceKind.PPM not in {a.ref.kind for a in planned.actions if isinstance(a, StartService)}
    assert planned.status.phase == "Running"


def test_always_after_a_round_without_a_ppm_is_an_error_that_says_why() -> None:
    status = plan(spec(3, use="always"), "r", Observed(previous=previous(skipped=WITHOUT_PPM)), START).status
    assert status.phase == "Failed"
    assert status.condition("Failed").reason == "NoPreviousPPM"  # type: ignore[union-attr]
    assert WITHOUT_PPM in status.message


def test_a_round_without_a_ppm_is_evaluated_without_the_ppm_service_and_the_stage_says_why() -> None:
    attempts = tuple(
        replace(a, output=output(a.stage, skipped=WITHOUT_PPM if a.stage is Stage.TRAIN_PPM else ""))
        for a in done(*STAGES[:-1])
    )
    planned = plan(spec(1), "r", Observed(attempts=attempts), START)
    kinds = {a.ref.kind for a in planned.actions if isinstance(a, StartService)}
    assert kinds == {ServiceKind.POLICY, ServiceKind.EXECUTOR}
    stage = planned.status.condition("StageTrainPpm")
    assert stage is not None
    assert (stage.status, stage.reason) == ("True", "Done")
    assert stage.message.startswith(f"skipped: {WITHOUT_PPM}; manifest ")
    ready = tuple(Service(ref, "ready", START) for ref in wanted_services(planned, attempts))
    start = plan(spec(1), "r", Observed(attempts=attempts, services=ready), START).actions
    assert [dict(a.inputs).keys() for a in start if isinstance(a, StartStage)] == [{"policy", "ppm"}]


def wanted_services(planned: Plan, attempts: tuple[Attempt, ...]) -> list[ServiceRef]:
    """Return the services that a plan and the one after it start."""
    refs = [a.ref for a in planned.actions if isinstance(a, StartService)]
    ready = tuple(Service(ref, "ready", START) for ref in refs)
    later = plan(spec(1), "r", Observed(attempts=attempts, services=ready), START).actions
    return [*refs, *(a.ref for a in later if isinstance(a, StartService))]


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
def test_a_round_waits_for_the_previous_one_and_fails_with_it(state: str, phase: str, reason: str) -> None:
    planned = plan(spec(2), "r2", Observed(previous=PreviousRound(state)), START)  # type: ignore[arg-type]
    assert planned.actions == ()
    assert planned.status.phase == phase
    assert planned.status.condition("Ready").reason == reason  # type: ignore[union-attr]
    assert "before" in planned.status.message
    assert (planned.requeue_after is not None) == (phase == "Waiting")


def test_a_finished_round_does_not_depend_on_the_previous_one() -> None:
    observed = Observed(attempts=done(*STAGES), previous=PreviousRound("missing"))
    assert plan(spec(2), "r2", observed, START).status.phase == "Succeeded"


def test_the_backoff_doubles_and_begins_at_the_last_failure() -> None:
    observed = Observed(attempts=(*done(Stage.ROLLOUT), failed(Stage.SELECT, 1), failed(Stage.SELECT, 2)))
    early = plan(spec(1), "r", observed, START + timedelta(seconds=13))
    assert early.actions == ()
    assert early.requeue_after == timedelta(seconds=1)
    assert early.status.condition("Ready").reason == "BackOff"  # type: ignore[union-attr]
    late = plan(spec(1), "r", observed, START + timedelta(seconds=14))
    assert [a.attempt for a in late.actions if isinstance(a, StartStage)] == [3]


def test_no_backoff_is_longer_than_six_hours() -> None:
    assert backoff(spec().lifecycle, 100) == LONGEST_BACKOFF


def test_bad_input_fails_the_round_at_once() -> None:
    observed = Observed(attempts=(failed(Stage.ROLLOUT, 1, exit_code=2, reason="line 3 has no question"),))
    status = plan(spec(1), "r", observed, START + timedelta(days=1)).status
    assert status.phase == "Failed"
    assert status.condition("Failed").reason == "BadInput"  # type: ignore[union-attr]
    assert "line 3 has no question" in status.message


def lost(number: int, **changes: object) -> Attempt:
    return failed(Stage.SELECT, number, exit_code=None, reason="its node went away", ending=EndReason.LOST, **changes)


def after_rollout(*attempts: Attempt) -> Observed:
    return Observed(attempts=(*done(Stage.ROLLOUT), *attempts))


def test_lost_attempts_never_count_but_the_backoff_grows() -> None:
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


def test_an_attempt_that_was_lost_after_a_long_time_is_repeated_at_once() -> None:
    now = START + timedelta(seconds=15)
    observed = after_rollout(lost(1), lost(2, finished_at=now))
    assert [a.attempt for a in plan(spec(1), "r", observed, now).actions if isinstance(a, StartStage)] == [3]


def test_losses_and_failures_have_separate_backoffs() -> None:
    observed = after_rollout(lost(1), lost(2), failed(Stage.SELECT, 3))
    waits = plan(spec(1), "r", observed, START)
    assert waits.requeue_after == timedelta(seconds=14)
    second = START + timedelta(seconds=14)
    observed = after_rollout(failed(Stage.SELECT, 1), lost(2, started_at=second, finished_at=second))
    assert plan(spec(1), "r", observed, second).requeue_after == timedelta(seconds=7)


def test_an_attempt_past_its_deadline_is_ended_once_and_counts() -> None:
    running = Attempt(Stage.SELECT, 1, AttemptState.RUNNING, START)
    late = START + timedelta(seconds=1000)
    planned = plan(spec(1), "r", Observed(attempts=(*done(Stage.ROLLOUT), running)), late)
    assert planned.actions == (EndStage(Stage.SELECT, 1, EndReason.DEADLINE),)
    ending = Observed(attempts=(*done(Stage.ROLLOUT), replace(running, ending=EndReason.DEADLINE)))
    assert plan(spec(1), "r", ending, late).actions == ()
    assert failed(Stage.SELECT, 1, ending=EndReason.DEADLINE).counts


def test_training_waits_until_every_service_is_gone() -> None:
    simulated = SimulatedRound(spec(1), PreviousRound())
    simulated.observed = replace(simulated.observed, attempts=done(Stage.ROLLOUT, Stage.SELECT))
    ref = next(a.ref for a in plan(spec(1), "r", Observed(), START).actions if isinstance(a, StartService))
    simulated.replace_service(ref, Service(ref, "ready", START))
    assert simulated.plan_and_apply().actions == (StopService(ref),)
    assert states_of_services(simulated) == {"policy": "stopping"}
    simulated.happen("service-gone", 0)
    assert isinstance(simulated.plan_and_apply().actions[0], StartStage)


def test_evaluation_without_problems_starts_no_service() -> None:
    observed = Observed(attempts=done(*STAGES[:-1]))
    actions = plan(spec(1, evaluates=False), "r", observed, START).actions
    assert [type(a) for a in actions] == [StartStage]


def test_the_status_has_the_lineage_by_digest_and_the_transition_times() -> None:
    observed = Observed(attempts=done(Stage.ROLLOUT), previous=previous())
    first = plan(spec(2), "r2", observed, START).status
    assert first.inputs["policy"].digest == "digest-train-policy"
    assert first.stages[0].output is not None
    assert first.stages[0].output.digest == "digest-rollout"
    later = plan(spec(2), "r2", replace(observed, conditions=first.conditions), START + timedelta(hours=1)).status
    assert later.condition("StageRollout") == first.condition("StageRollout")
    assert later.condition("StageRollout").last_transition_time == START  # type: ignore[union-attr]

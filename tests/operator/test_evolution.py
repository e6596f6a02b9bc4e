"""What the operator decides about an evolution: which round it makes, adopts and changes, and the status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rstar_operator.deciding.evolution import EvolutionDecision, decide_evolution
from rstar_operator.deciding.evolution_status import evolution_transitions
from rstar_operator.deciding.write_failures import WriteFailure
from rstar_operator.deciding.writes import Create, Patch
from rstar_operator.snapshot import EvolutionSnapshot

from rstar.cluster.api import Json
from rstar.rounds.evolution_spec import LABEL
from rstar.rounds.evolution_status import EvolutionStatus

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TEMPLATE = {"baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}


def evolution(status: EvolutionStatus | None = None, **spec: Any) -> Json:
    head = {"name": "sums", "namespace": "lab", "uid": "evo", "resourceVersion": "1", "generation": 1}
    body = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution", "metadata": head}
    stored = {} if status is None else {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    return {**body, "spec": {"rounds": 3, "template": TEMPLATE, **spec}, **stored}


def made(number: int, phase: str = "Succeeded", owner: str | None = "evo", **more: Any) -> Json:
    """Return a round of the evolution as the API server gives it; ``more``: coverage, accuracy, spec, labels."""
    owners = [{"uid": owner, "controller": True, "kind": "Evolution", "name": "sums"}] if owner else []
    stages = [
        {"name": "rollout", "state": "done", "metrics": {"coverage": more.get("coverage")}},
        {
            "name": "evaluate",
            "state": "done",
            "metrics": {"methods": [{"name": "mcts", "accuracy": more["accuracy"]}] if "accuracy" in more else []},
        },
    ]
    ready = "True" if phase in {"Succeeded", "Running"} else "False"
    condition = {"type": "Ready", "status": ready, "reason": more.get("reason", "StageRunning"), "message": "m"}
    previous = {"previousRound": f"sums-r{number - 1}"} if number > 1 else {}
    return {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {
            "name": f"sums-r{number}",
            "namespace": "lab",
            "uid": f"r{number}",
            "resourceVersion": "5",
            "labels": more.get("labels", {LABEL: "sums"}),
            "ownerReferences": owners,
        },
        "spec": {"round": number, **previous, **TEMPLATE, **more.get("spec", {})},
        "status": {
            "phase": phase,
            "stage": "rollout",
            "message": "stage rollout is running",
            "progressText": "3/7",
            "stages": stages,
            "conditions": [{**condition, "lastTransitionTime": "2030-01-01T00:00:00Z"}],
        },
    }


def decided(*rounds: Json, **spec: Any) -> EvolutionDecision:
    return decide_evolution(EvolutionSnapshot(evolution(**spec), rounds), NOW)


def created(decision: EvolutionDecision) -> list[tuple[str, bool]]:
    return [(w.body["metadata"]["name"], w.dry_run) for w in decision.writes if isinstance(w, Create)]


def ready(status: EvolutionStatus) -> tuple[str, str]:
    condition = status.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason


def test_the_first_round_is_made_once_the_server_was_asked_about_the_others() -> None:
    decision = decided()
    assert created(decision) == [("sums-r2", True), ("sums-r3", True), ("sums-r1", False)]
    *_, first = decision.writes
    assert isinstance(first, Create)
    assert first.body["spec"] == {"round": 1, **TEMPLATE}
    assert first.body["metadata"]["labels"] == {LABEL: "sums"}
    [owner] = first.body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "Evolution",
        "evo",
        True,
        True,
    )
    assert (decision.status.phase, decision.status.rounds_text) == ("Running", "0/3")


def test_the_next_round_is_made_when_the_one_before_it_is_complete() -> None:
    assert created(decided(made(1, "Running"))) == []
    assert created(decided(made(1, coverage=0.5))) == [("sums-r3", True), ("sums-r2", False)]


def test_the_status_shows_the_round_at_work_and_what_each_round_reached() -> None:
    rounds = [made(1, coverage=0.5, accuracy=0.25), made(2, coverage=0.625, accuracy=0.3), made(3, "Running")]
    status = decided(*rounds).status
    assert (status.rounds_text, status.stage, status.progress_text) == ("2/3", "rollout", "3/7")
    assert (status.solved_percent, status.accuracy_percent) == ("50.0 62.5", "25.0 30.0")
    assert [one.phase for one in status.rounds] == ["Succeeded", "Succeeded", "Running"]
    assert ready(status) == ("True", "StageRunning")
    assert status.message == "round sums-r3: stage rollout is running"


def test_it_is_complete_with_its_last_round_and_goes_on_when_rounds_are_added() -> None:
    rounds = [made(n, coverage=0.5) for n in (1, 2, 3)]
    status = decided(*rounds).status
    assert (status.phase, ready(status)) == ("Succeeded", ("True", "AllRoundsDone"))
    assert created(decided(*rounds, rounds=4)) == [("sums-r4", False)]


def test_a_round_that_brings_nothing_ends_it_by_the_stated_rule() -> None:
    rules = {"stopWhen": {"coverageGainBelow": 0.01}}
    decision = decided(made(1, coverage=0.5), made(2, coverage=0.505), **rules)
    assert decision.writes == ()
    assert (decision.status.phase, ready(decision.status)) == ("Succeeded", ("True", "StoppedEarly"))
    assert "coverageGainBelow is 0.01" in decision.status.message


def test_a_failed_round_ends_it_and_a_round_that_recovers_revives_it() -> None:
    status = decided(made(1, "Failed", reason="ServiceFailed")).status
    assert (status.phase, ready(status)) == ("Failed", ("False", "RoundFailed"))
    assert decided(made(1, "Running")).status.phase == "Running"


def test_a_changed_template_changes_what_may_change_in_the_round_at_work_and_no_finished_one() -> None:
    template = {**TEMPLATE, "seed": 7, "services": {"policy": {"replicas": 2}}}
    decision = decided(made(1), made(2, "Running"), template=template)
    [patch] = decision.writes
    assert isinstance(patch, Patch)
    assert (patch.name, set(patch.body["spec"])) == ("sums-r2", {"services"})  # the seed is for later rounds
    assert patch.body["spec"]["services"]["policy"]["replicas"] == 2


@pytest.mark.parametrize(("asked", "patched"), [(True, True), (False, False), (None, None)])
def test_suspend_goes_down_and_an_unset_one_leaves_the_rounds_own(asked: bool | None, patched: bool | None) -> None:
    spec = {} if asked is None else {"suspend": asked}
    decision = decided(made(1, "Running", spec={"suspend": not asked}), **spec)
    changes = [write.body["spec"]["suspend"] for write in decision.writes if isinstance(write, Patch)]
    assert changes == ([] if patched is None else [patched])


def test_a_suspended_one_makes_no_round_and_a_cancelled_one_fails() -> None:
    suspended, cancelled = decided(suspend=True), decided(made(1), cancel=True)
    assert (created(suspended), suspended.status.phase) == ([], "Suspended")
    assert (created(cancelled), cancelled.status.phase) == ([], "Failed")
    assert ready(cancelled.status) == ("False", "Cancelled")


def test_a_round_without_an_owner_is_adopted_by_its_label() -> None:
    [patch] = decided(made(1, "Running", owner=None)).writes
    assert isinstance(patch, Patch)
    assert patch.body["metadata"]["resourceVersion"] == "5"
    assert [owner["uid"] for owner in patch.body["metadata"]["ownerReferences"]] == ["evo"]


@pytest.mark.parametrize("foreign", [made(1, owner=None, labels={}), made(1, owner="another")])
def test_somebody_elses_round_is_left_alone_and_reported(foreign: Json) -> None:
    decision = decided(foreign)
    assert decision.writes == ()
    assert ready(decision.status) == ("False", "NameConflict")
    assert "EvolutionRound sums-r1 is in the way" in decision.status.message


def test_somebody_elses_later_round_blocks_the_next_one_and_not_the_one_at_work() -> None:
    foreign = made(3, owner=None, labels={})
    suspended = decided(made(1), made(2, "Running"), foreign, suspend=True)
    assert [write.body for write in suspended.writes if isinstance(write, Patch)] == [{"spec": {"suspend": True}}]
    assert ready(suspended.status) == ("True", "StageRunning")
    assert ready(decided(made(1), made(2), foreign).status) == ("False", "NameConflict")


def test_a_round_that_the_user_deleted_is_made_again_only_if_no_later_one_exists() -> None:
    assert created(decided(made(2, "Running"))) == []
    assert decided(made(2, "Running")).status.rounds[0].phase == "Deleted"
    assert created(decided(made(1)))[-1] == ("sums-r2", False)


def test_an_invalid_round_is_one_sentence_before_any_round_is_made() -> None:
    decision = decided(perRound=[{"round": 3, "spec": {"rollout": {"concurrency": 0}}}])
    assert decision.writes == ()
    assert ready(decision.status) == ("False", "InvalidSpec")
    assert decision.status.message == "round 3: spec.rollout.concurrency: must be at least 1, not 0"


def test_an_evolution_that_is_being_deleted_writes_nothing() -> None:
    body = evolution()
    body["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert decide_evolution(EvolutionSnapshot(body), NOW).writes == ()


def test_a_refused_round_stays_in_the_status_until_it_is_made() -> None:
    failure = WriteFailure("CreationRefused", "EvolutionRound sums-r2 was refused: quota")
    refused = decided(made(1)).status_after(failure)
    assert ready(refused) == ("False", "CreationRefused")
    again = decide_evolution(EvolutionSnapshot(evolution(refused), (made(1),)), NOW)
    assert again.status == refused
    made_by_now = decide_evolution(EvolutionSnapshot(evolution(refused), (made(1), made(2, "Running"))), NOW).status
    assert ready(made_by_now) == ("True", "StageRunning")
    condition = made_by_now.condition("CreationRefused")
    assert condition is not None
    assert condition.status == "False"


def test_a_pass_over_what_was_carried_out_changes_nothing() -> None:
    rounds = (made(1, coverage=0.5), made(2, "Running"))
    status = decide_evolution(EvolutionSnapshot(evolution(), rounds), NOW).status
    again = decide_evolution(EvolutionSnapshot(evolution(status), rounds), NOW)
    assert (again.status, again.writes) == (status, ())


def test_events_report_finished_rounds_and_the_evolutions_own_reasons_alone() -> None:
    first, second = decided(made(1, "Running")).status, decided(made(1, coverage=0.5)).status
    assert list(evolution_transitions(None, first)) == []
    done, starting = evolution_transitions(first, second)
    assert done == ("Normal", "RoundDone", "round sums-r1 is done: solved 50.0 % of the training problems")
    assert starting[:2] == ("Normal", "RoundStarting")

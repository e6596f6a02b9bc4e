"""Evolutions on a real API server under the chart's operator: their rounds, their end, and what goes down to a round."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rstar_testbed.kubelet import Run

from rstar.cluster.api import EVENTS, EVOLUTIONS, PODS, ROUNDS, ClusterError, Json
from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.observed import Stage
from tests.support.cluster.round_namespace import RoundNamespace
from tests.support.cluster.rounds import round_body

FOREVER = Run()


def submit(place: RoundNamespace, name: str, **spec: Any) -> Json:
    template = {key: value for key, value in round_body("x", 1)["spec"].items() if key != "round"}
    body = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution", "metadata": {"name": name}}
    return place.api.create(EVOLUTIONS, place.namespace, {**body, "spec": {"template": template, **spec}})


def edit(place: RoundNamespace, name: str, **spec: Any) -> None:
    place.kubectl("patch", "evo", name, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def wait_for(rounds: RoundNamespace, name: str, done: Callable[[EvolutionStatus], bool], what: str) -> EvolutionStatus:
    def found() -> EvolutionStatus | None:
        body = rounds.get(EVOLUTIONS, name)
        status = body.get("status") if body is not None else None
        parsed = EvolutionStatus.model_validate(status) if status else None
        return parsed if parsed is not None and done(parsed) else None

    status: EvolutionStatus = rounds.wait_until(found, f"evolution {name}: {what}")
    return status


def wait_for_reason(rounds: RoundNamespace, name: str, reason: str, text: str = "") -> EvolutionStatus:
    def matches(status: EvolutionStatus) -> bool:
        ready = status.condition("Ready")
        return ready is not None and ready.reason == reason and text in ready.message

    return wait_for(rounds, name, matches, reason)


def names(rounds: RoundNamespace, name: str) -> list[str]:
    found = rounds.api.list(ROUNDS, rounds.namespace, f"rstar.dev/evolution={name}")
    return sorted(body["metadata"]["name"] for body in found)


def test_an_evolution_makes_one_round_after_the_other_and_shows_what_each_reached(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, round="sums-r2", stage=Stage.SELECT)
    submit(rounds, "sums", rounds=2, perRound=[{"round": 2, "spec": {"seed": 9}}])
    wait_for(rounds, "sums", lambda s: (s.rounds_text, s.stage) == ("1/2", "select"), "round 2 at work")
    assert names(rounds, "sums") == ["sums-r1", "sums-r2"]
    second = rounds.get(ROUNDS, "sums-r2")
    assert second is not None
    assert (second["spec"]["previousRound"], second["spec"]["seed"]) == ("sums-r1", 9)
    # A larger service of the template reaches the round at work; the suspension goes down and up again.
    edit(rounds, "sums", template={"services": {"policy": {"replicas": 2}}}, suspend=True)
    wait_for_reason(rounds, "sums", "Suspended")
    rounds.wait_until_released("sums-r2")
    second = rounds.get(ROUNDS, "sums-r2")
    assert second is not None
    assert second["spec"]["services"]["policy"]["replicas"] == 2
    rounds.script.rules.clear()
    edit(rounds, "sums", suspend=False)
    status = wait_for_reason(rounds, "sums", "AllRoundsDone")
    assert (status.phase, status.rounds_text, status.solved_percent) == ("Succeeded", "2/2", "70.0 70.0")
    row = rounds.kubectl("get", "evo", "sums", "--no-headers").split()
    assert row[:2] == ["sums", "2/2"]
    assert "AllRoundsDone" in row
    found = [e["reason"] for e in rounds.api.list(EVENTS, rounds.namespace) if e["involvedObject"]["name"] == "sums"]
    assert sorted(found) == ["AllRoundsDone", "RoundDone", "RoundDone", "RoundStarting", "RoundStarting", "Suspended"]


def test_deleting_an_evolution_deletes_its_rounds_and_orphans_are_adopted(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, round="kept-r1")
    submit(rounds, "kept", rounds=2)
    rounds.wait_for_running("kept-r1", "rollout")
    rounds.kubectl("delete", "evo", "kept", "--cascade=orphan")
    rounds.wait_until_gone(EVOLUTIONS, "kept")
    first = rounds.get(ROUNDS, "kept-r1")
    submit(rounds, "kept", rounds=2)

    def adopted() -> bool:
        body = rounds.get(ROUNDS, "kept-r1")
        return body is not None and bool(body["metadata"].get("ownerReferences"))

    rounds.wait_until(adopted, "the orphan has an owner again")
    again = rounds.get(ROUNDS, "kept-r1")
    assert first is not None
    assert again is not None
    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    rounds.kubectl("delete", "evo", "kept", "--wait=false")
    rounds.wait_until_gone(ROUNDS, "kept-r1")
    rounds.wait_until(lambda: not rounds.list_objects(PODS, "kept-r1"), "no pod of a deleted round")


def test_a_fault_of_a_later_round_is_reported_before_the_first_is_made(rounds: RoundNamespace) -> None:
    # The API server alone knows that pods cannot read a file of somebody's laptop.
    submit(rounds, "late", rounds=3, perRound=[{"round": 3, "spec": {"problems": {"uri": "mine.jsonl"}}}])
    status = wait_for_reason(rounds, "late", "CreationRefused", "EvolutionRound late-r3 was refused")
    assert "which pods cannot read" in status.message
    assert names(rounds, "late") == []
    edit(rounds, "late", perRound=[])
    rounds.wait_for_object(ROUNDS, "late-r1")
    submit(rounds, "wrong", perRound=[{"round": 2, "spec": {"rollout": {"concurrency": 0}}}])
    wait_for_reason(rounds, "wrong", "InvalidSpec", "round 2: spec.rollout.concurrency")


def test_the_api_server_refuses_an_evolution_that_cannot_be(rounds: RoundNamespace) -> None:
    def refusal(**spec: Any) -> str:
        try:
            submit(rounds, "bad", **spec)
        except ClusterError as error:
            return str(error)
        return ""

    assert "spec.template.baseModel is models/base, which pods cannot read" in refusal(
        template={"baseModel": "models/base", "problems": {"uri": "store:p"}}
    )
    assert "spec.template.problems: Required value" in refusal(template={"baseModel": "store:b"})
    assert "perRound names a round above rounds" in refusal(rounds=2, perRound=[{"round": 3, "spec": {}}])
    assert "Duplicate value" in refusal(perRound=[{"round": 2, "spec": {}}, {"round": 2, "spec": {}}])
    assert "should be greater than or equal to 1" in refusal(
        template={"baseModel": "store:b", "problems": {"uri": "store:p"}, "rollout": {"concurrency": 0}}
    )

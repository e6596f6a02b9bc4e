"""Rounds from beginning to end on a real API server, under the chart's operator: what it makes, and what it tells."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import Any

import yaml
from rstar_testbed.kubelet import Run

from rstar.cluster.api import CONFIG_MAPS, DEPLOYMENTS, PODS, PYTORCH_JOBS, ROUNDS, SERVICES
from rstar.rounds.observed import STAGES, Stage
from rstar.rounds.status import RoundStatus
from tests.operator.test_golden_pytorchjob import GOLDEN
from tests.support.cluster.lab import Lab
from tests.support.cluster.operating import result_of

FOREVER = Run()


def outcomes(status: RoundStatus) -> list[tuple[str, int, str, str | None]]:
    return [(r.stage, r.number, r.state, r.ending) for r in status.attempts]


def test_a_round_goes_through_and_tells_each_step_once(lab: Lab) -> None:
    lab.submit("r1")
    status = lab.succeeds("r1")
    assert [stage.state for stage in status.stages] == ["done"] * 5
    assert outcomes(status) == [(stage, 1, "succeeded", None) for stage in STAGES]
    lab.becomes(lambda: not lab.of(DEPLOYMENTS, "r1"), "no services of a round that has ended")
    assert lab.of(SERVICES, "r1") == []
    assert lab.jobs("r1") == sorted(f"r1-{stage}-1" for stage in STAGES)
    assert lab.names(CONFIG_MAPS, "r1") == lab.jobs("r1")
    lab.released("r1")
    told = lab.events("r1")
    assert len(set(told)) == len(told)
    described = lab.kubectl("describe", "er", "r1")
    for stage in STAGES:
        assert described.count(f"attempt 1 of stage {stage} is done") == 1
    assert described.count("AllStagesDone  ") == 1
    columns = lab.columns("r1")
    assert columns.pop("AGE")
    assert columns == {
        "NAME": "r1",
        "ROUND": "1",
        "STAGE": "",
        "PROGRESS": "",
        "SOLVED %": "70.0",
        "READY": "True",
        "REASON": "AllStagesDone",
    }
    assert lab.columns("r1", "-o", "wide")["MESSAGE"] == "round r1 is complete"


def test_a_later_round_waits_for_the_one_before_and_says_so(lab: Lab) -> None:
    lab.script.on(FOREVER, round="r2", stage=Stage.SELECT)
    lab.script.on(Run(seconds=0, code=2, message='{"error": "no problems", "exit_code": 2}'), round="f1")
    lab.submit("f2", 2, previousRound="f1")
    lab.submit("r2", 2, previousRound="r1")
    lab.ready_is("r2", "PreviousRoundNotReady", "previous round r1 does not exist yet")
    assert lab.columns("r2")["REASON"] == "PreviousRoundNotReady"
    lab.submit("r1", suspend=True)
    lab.ready_is("r2", "PreviousRoundNotReady", "previous round r1 is still running")
    assert lab.of(PODS, "r2") == []
    lab.edit("r1", suspend=False)
    lab.submit("f1")
    first = lab.succeeds("r1")
    lab.fails("f2", "PreviousRoundFailed", "its previous round f1 failed")
    lab.runs("r2", "select")
    # What it was made from stays told, though the round before goes.
    lab.kubectl("delete", "er", "r1")
    pod = lab.pod("r2", "select")
    lab.kubelet.end(lab.namespace, pod["metadata"]["name"], message=result_of(pod))
    second = lab.succeeds("r2")
    policy = next(stage.output for stage in first.stages if stage.name == "train-policy")
    assert second.inputs == {"policy": policy}


def test_suspension_in_any_stage_frees_all_pods_and_costs_no_attempt(lab: Lab) -> None:
    lab.script.on(FOREVER, round="r1", attempt="1")
    lab.submit("r1", lifecycle={"maxAttempts": 1})
    for stage in STAGES:
        lab.runs("r1", stage)
        running = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in lab.live_pods("r1")}
        searching = {Stage.ROLLOUT: {"policy", "search"}, Stage.EVALUATE: {"policy", "ppm", "search"}}
        assert running == {"stage", *searching.get(stage, ())}
        lab.edit("r1", suspend=True)
        lab.ready_is("r1", "Suspended")
        lab.becomes(lambda: not (lab.live_pods("r1") or lab.of(DEPLOYMENTS, "r1")), "nothing that runs")
        assert lab.columns("r1")["REASON"] == "Suspended"
        lab.edit("r1", suspend=False)
    status = lab.succeeds("r1")
    for stage in STAGES:
        of_stage = [each for each in outcomes(status) if each[0] == stage]
        assert of_stage == [(stage, 1, "failed", "suspended"), (stage, 2, "succeeded", None)]
    assert [told.attempts for told in status.stages] == [0] * 5


def test_cancellation_ends_a_round_for_good_and_keeps_what_is_finished(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.TRAIN_POLICY)
    for name in ("running", "resting"):
        lab.submit(name)
        lab.runs(name, "train-policy")
    lab.edit("resting", suspend=True)
    lab.ready_is("resting", "Suspended")
    for name in ("running", "resting"):
        lab.edit(name, cancel=True)
        status = lab.fails(name, "Cancelled")
        assert [stage.state for stage in status.stages] == ["done", "done", "failed", "waiting", "waiting"]
        lab.released(name)
        assert lab.columns(name)["REASON"] == "Cancelled"
        taken_back = lab.bed.kubectl(
            "-n", lab.namespace, "patch", "er", name, "--type=merge", '--patch={"spec":{"cancel":false}}', check=False
        )
        assert re.search("invalid.*cancel", taken_back)
    assert outcomes(status)[-1][2:] == ("failed", "suspended")


def test_in_a_queue_a_stage_waits_as_long_as_it_takes(lab: Lab) -> None:
    lab.submit("r1", cluster={"queue": "lab-queue"}, lifecycle={"pendingSeconds": 1})
    lab.ready_is("r1", "StageQueued")
    # The pass that a change brings finds that all of pendingSeconds has gone by.
    lab.becomes(lambda: _age(lab, "r1-rollout-1") > 2, "a job that has waited")
    lab.edit("r1", lifecycle={"maxAttempts": 1})
    status = lab.once("r1", lambda status: status.observed_generation == 2)
    assert outcomes(status) == [("rollout", 1, "pending", None)]
    assert lab.columns("r1")["REASON"] == "StageQueued"
    assert lab.of(PODS, "r1", component="stage") == []
    lab.edit("r1", lifecycle={"pendingSeconds": 600})
    for stage in STAGES:
        job = lab.there(PYTORCH_JOBS, f"r1-{stage}-1")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab-queue"
        assert job["spec"]["runPolicy"]["suspend"] is True
        # As the queue does when there is room.
        patch = json.dumps({"spec": {"runPolicy": {"suspend": False}}})
        lab.kubectl("patch", "pytorchjob", f"r1-{stage}-1", "--type=merge", f"--patch={patch}")
    lab.succeeds("r1")


def _age(lab: Lab, name: str) -> float:
    job = lab.get(PYTORCH_JOBS, name)
    assert job is not None
    return (datetime.now(UTC) - datetime.fromisoformat(job["metadata"]["creationTimestamp"])).total_seconds()


def test_what_is_kept_of_finished_attempts_goes_in_time_and_the_status_stays(lab: Lab) -> None:
    lab.submit("r1", lifecycle={"ttlSeconds": 1})
    status = lab.succeeds("r1")
    lab.becomes(lambda: not (lab.jobs("r1") or lab.of(PODS, "r1")), "nothing left of the attempts")
    lab.becomes(lambda: not lab.of(CONFIG_MAPS, "r1"), "nothing left of their progress")
    left = RoundStatus.model_validate((lab.get(ROUNDS, "r1") or {})["status"])
    assert (left.attempts, left.stages, left.phase) == (status.attempts, status.stages, "Succeeded")


def test_several_nodes_train_as_elastic_workers_and_any_of_them_may_tell_the_result(lab: Lab) -> None:
    for name, teller in (("first", "0"), ("second", "1")):
        other = str(1 - int(teller))
        lab.script.on(Run(seconds=0), round=name, stage=Stage.TRAIN_POLICY, worker=other)
        lab.script.on(FOREVER, round=name, stage=Stage.TRAIN_POLICY, worker=teller)
        lab.submit(name, trainPolicy={"nodes": 2, "processesPerNode": 4}, lifecycle={"maxAttempts": 1})
    for name, teller in (("first", "0"), ("second", "1")):
        pods = lab.becomes(partial(_workers, lab, name), "two workers")
        for pod in pods:
            environment = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
            assert {key: environment[key] for key in ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_RDZV_BACKEND")} == {
                "PET_NNODES": "2:2",
                "PET_NPROC_PER_NODE": "4",
                "PET_RDZV_BACKEND": "c10d",
            }
            assert environment["PET_RDZV_ENDPOINT"].startswith(f"{name}-train-policy-1-worker-0:")
            assert environment["PET_MAX_RESTARTS"] == "0"
        told = pods[int(teller)]
        # The other has succeeded, and so has the job: only this one knows what came of it.
        lab.becomes(partial(_succeeded, lab, f"{name}-train-policy-1"), "a job that succeeded")
        lab.runs(name, "train-policy")
        lab.kubelet.end(lab.namespace, told["metadata"]["name"], message=result_of(told))
        lab.succeeds(name)


def _workers(lab: Lab, name: str) -> list[dict[str, Any]] | None:
    pods = sorted(lab.of(PODS, name, stage="train-policy"), key=lambda pod: str(pod["metadata"]["name"]))
    return pods if len(pods) == 2 else None


def _succeeded(lab: Lab, name: str) -> bool:
    job = lab.get(PYTORCH_JOBS, name) or {}
    return any(c["type"] == "Succeeded" and c["status"] == "True" for c in job.get("status", {}).get("conditions", []))


def test_what_outlives_the_result_of_several_nodes_is_ended(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.TRAIN_PPM, worker="1")
    lab.submit("good", trainPpm={"nodes": 2})
    lab.script.on(Run(seconds=0, code=1, message="no rendezvous"), round="bad", stage=Stage.TRAIN_PPM, worker="0")
    lab.submit("bad", trainPpm={"nodes": 2}, lifecycle={"maxAttempts": 1})
    lab.succeeds("good")
    lab.fails("bad", "AttemptsExhausted", "no rendezvous")
    for name in ("good", "bad"):
        lab.released(name)
        assert f"{name}-train-ppm-1-worker-0" in lab.names(PODS, name)


def test_the_training_operators_crd_takes_the_golden_jobs(lab: Lab) -> None:
    jobs = [yaml.safe_load(file.read_text()) for file in sorted(GOLDEN.glob("*.yaml"))]
    assert len(jobs) == 2
    for job in jobs:
        answer = lab.api.create(PYTORCH_JOBS, lab.namespace, job | {"metadata": _here(job, lab)}, dry_run=True)
        # Nothing is dropped for being unknown.
        job["spec"]["runPolicy"].setdefault("suspend", False)
        assert answer["spec"] == job["spec"]


def _here(job: dict[str, Any], lab: Lab) -> dict[str, Any]:
    return {**job["metadata"], "namespace": lab.namespace}

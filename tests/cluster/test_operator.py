"""Whole rounds on a real API server under the chart's operator: its objects, statuses, Events and columns."""

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
from tests.support.cluster.round_namespace import RoundNamespace
from tests.support.cluster.rounds import result_of

FOREVER = Run()


def outcomes(status: RoundStatus) -> list[tuple[str, int, str, str | None]]:
    return [(r.stage, r.number, r.state, r.ending) for r in status.attempts]


def test_a_round_succeeds_and_reports_each_stage_once(rounds: RoundNamespace) -> None:
    rounds.submit("r1")
    status = rounds.wait_for_success("r1")
    assert [stage.state for stage in status.stages] == ["done"] * 5
    assert outcomes(status) == [(stage, 1, "succeeded", None) for stage in STAGES]
    rounds.wait_until(lambda: not rounds.list_objects(DEPLOYMENTS, "r1"), "no services of a round that has ended")
    assert rounds.list_objects(SERVICES, "r1") == []
    assert rounds.jobs("r1") == sorted(f"r1-{stage}-1" for stage in STAGES)
    assert rounds.names(CONFIG_MAPS, "r1") == rounds.jobs("r1")
    rounds.wait_until_released("r1")
    events = rounds.events("r1")
    assert len(set(events)) == len(events)
    described = rounds.kubectl("describe", "er", "r1")
    for stage in STAGES:
        assert described.count(f"attempt 1 of stage {stage} is done") == 1
    assert described.count("AllStagesDone  ") == 1
    columns = rounds.columns("r1")
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
    assert rounds.columns("r1", "-o", "wide")["MESSAGE"] == "round r1 is complete"


def test_a_later_round_waits_for_the_previous_one_and_reports_it(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, round="r2", stage=Stage.SELECT)
    rounds.script.set(Run(seconds=0, code=2, message='{"error": "no problems", "exit_code": 2}'), round="f1")
    rounds.submit("f2", 2, previousRound="f1")
    rounds.submit("r2", 2, previousRound="r1")
    rounds.wait_for_reason("r2", "PreviousRoundNotReady", "previous round r1 does not exist yet")
    assert rounds.columns("r2")["REASON"] == "PreviousRoundNotReady"
    rounds.submit("r1", suspend=True)
    rounds.wait_for_reason("r2", "PreviousRoundNotReady", "previous round r1 is still running")
    assert rounds.list_objects(PODS, "r2") == []
    rounds.edit("r1", suspend=False)
    rounds.submit("f1")
    first = rounds.wait_for_success("r1")
    rounds.wait_for_failure("f2", "PreviousRoundFailed", "its previous round f1 failed")
    rounds.wait_for_running("r2", "select")
    # Its status keeps its inputs when the previous round is deleted.
    rounds.kubectl("delete", "er", "r1")
    pod = rounds.wait_for_pod("r2", "select")
    rounds.kubelet.end(rounds.namespace, pod["metadata"]["name"], message=result_of(pod))
    second = rounds.wait_for_success("r2")
    policy = next(stage.output for stage in first.stages if stage.name == "train-policy")
    assert second.inputs == {"policy": policy}


def test_suspension_in_any_stage_ends_all_pods_and_costs_no_attempt(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, round="r1", attempt="1")
    rounds.submit("r1", lifecycle={"maxAttempts": 1})
    for stage in STAGES:
        rounds.wait_for_running("r1", stage)
        running = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in rounds.live_pods("r1")}
        searching = {Stage.ROLLOUT: {"policy", "search"}, Stage.EVALUATE: {"policy", "ppm", "search"}}
        assert running == {"stage", *searching.get(stage, ())}
        rounds.edit("r1", suspend=True)
        rounds.wait_for_reason("r1", "Suspended")
        rounds.wait_until(
            lambda: not (rounds.live_pods("r1") or rounds.list_objects(DEPLOYMENTS, "r1")), "no pods and services"
        )
        assert rounds.columns("r1")["REASON"] == "Suspended"
        rounds.edit("r1", suspend=False)
    status = rounds.wait_for_success("r1")
    for stage in STAGES:
        of_stage = [each for each in outcomes(status) if each[0] == stage]
        assert of_stage == [(stage, 1, "failed", "suspended"), (stage, 2, "succeeded", None)]
    assert [stage.attempts for stage in status.stages] == [0] * 5


def test_cancellation_fails_a_round_for_good_and_keeps_its_finished_stages(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.TRAIN_POLICY)
    for name in ("running", "suspended"):
        rounds.submit(name)
        rounds.wait_for_running(name, "train-policy")
    rounds.edit("suspended", suspend=True)
    rounds.wait_for_reason("suspended", "Suspended")
    for name in ("running", "suspended"):
        rounds.edit(name, cancel=True)
        status = rounds.wait_for_failure(name, "Cancelled")
        assert [stage.state for stage in status.stages] == ["done", "done", "failed", "waiting", "waiting"]
        rounds.wait_until_released(name)
        assert rounds.columns(name)["REASON"] == "Cancelled"
        undone = rounds.bed.kubectl(
            "-n",
            rounds.namespace,
            "patch",
            "er",
            name,
            "--type=merge",
            '--patch={"spec":{"cancel":false}}',
            check=False,
        )
        assert re.search("invalid.*cancel", undone)
    assert outcomes(status)[-1][2:] == ("failed", "suspended")


def test_in_a_queue_a_stage_waits_without_a_limit(rounds: RoundNamespace) -> None:
    rounds.submit("r1", cluster={"queue": "lab-queue"}, lifecycle={"pendingSeconds": 1})
    rounds.wait_for_reason("r1", "StageQueued")
    # The pass after the next change finds that pendingSeconds have passed.
    rounds.wait_until(lambda: _age(rounds, "r1-rollout-1") > 2, "a job that has waited")
    rounds.edit("r1", lifecycle={"maxAttempts": 1})
    status = rounds.wait_for("r1", lambda status: status.observed_generation == 2)
    assert outcomes(status) == [("rollout", 1, "pending", None)]
    assert rounds.columns("r1")["REASON"] == "StageQueued"
    assert rounds.list_objects(PODS, "r1", component="stage") == []
    rounds.edit("r1", lifecycle={"pendingSeconds": 600})
    for stage in STAGES:
        job = rounds.wait_for_object(PYTORCH_JOBS, f"r1-{stage}-1")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab-queue"
        assert job["spec"]["runPolicy"]["suspend"] is True
        # As a queue does when it admits the job.
        patch = json.dumps({"spec": {"runPolicy": {"suspend": False}}})
        rounds.kubectl("patch", "pytorchjob", f"r1-{stage}-1", "--type=merge", f"--patch={patch}")
    rounds.wait_for_success("r1")


def _age(rounds: RoundNamespace, name: str) -> float:
    job = rounds.get(PYTORCH_JOBS, name)
    assert job is not None
    return (datetime.now(UTC) - datetime.fromisoformat(job["metadata"]["creationTimestamp"])).total_seconds()


def test_objects_of_finished_attempts_are_deleted_after_their_ttl_and_the_status_stays(rounds: RoundNamespace) -> None:
    rounds.submit("r1", lifecycle={"ttlSeconds": 1})
    status = rounds.wait_for_success("r1")
    rounds.wait_until(
        lambda: not (rounds.jobs("r1") or rounds.list_objects(PODS, "r1")), "no jobs and pods of the attempts"
    )
    rounds.wait_until(lambda: not rounds.list_objects(CONFIG_MAPS, "r1"), "no ConfigMaps of the attempts")
    left = RoundStatus.model_validate((rounds.get(ROUNDS, "r1") or {})["status"])
    assert (left.attempts, left.stages, left.phase) == (status.attempts, status.stages, "Succeeded")


def test_several_nodes_train_as_elastic_workers_and_any_of_them_may_report_the_result(rounds: RoundNamespace) -> None:
    for name, reporter in (("first", "0"), ("second", "1")):
        other = str(1 - int(reporter))
        rounds.script.set(Run(seconds=0), round=name, stage=Stage.TRAIN_POLICY, worker=other)
        rounds.script.set(FOREVER, round=name, stage=Stage.TRAIN_POLICY, worker=reporter)
        rounds.submit(name, trainPolicy={"nodes": 2, "processesPerNode": 4}, lifecycle={"maxAttempts": 1})
    for name, reporter in (("first", "0"), ("second", "1")):
        pods = rounds.wait_until(partial(_workers, rounds, name), "two workers")
        for pod in pods:
            environment = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
            assert {key: environment[key] for key in ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_RDZV_BACKEND")} == {
                "PET_NNODES": "2:2",
                "PET_NPROC_PER_NODE": "4",
                "PET_RDZV_BACKEND": "c10d",
            }
            assert environment["PET_RDZV_ENDPOINT"].startswith(f"{name}-train-policy-1-worker-0:")
            assert environment["PET_MAX_RESTARTS"] == "0"
        reporting = pods[int(reporter)]
        # The other worker has succeeded, and so has the job; only this one has the result.
        rounds.wait_until(partial(_succeeded, rounds, f"{name}-train-policy-1"), "a job that succeeded")
        rounds.wait_for_running(name, "train-policy")
        rounds.kubelet.end(rounds.namespace, reporting["metadata"]["name"], message=result_of(reporting))
        rounds.wait_for_success(name)


def _workers(rounds: RoundNamespace, name: str) -> list[dict[str, Any]] | None:
    pods = sorted(rounds.list_objects(PODS, name, stage="train-policy"), key=lambda pod: str(pod["metadata"]["name"]))
    return pods if len(pods) == 2 else None


def _succeeded(rounds: RoundNamespace, name: str) -> bool:
    job = rounds.get(PYTORCH_JOBS, name) or {}
    return any(c["type"] == "Succeeded" and c["status"] == "True" for c in job.get("status", {}).get("conditions", []))


def test_workers_that_still_run_after_the_result_are_ended(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.TRAIN_PPM, worker="1")
    rounds.submit("good", trainPpm={"nodes": 2})
    rounds.script.set(Run(seconds=0, code=1, message="no rendezvous"), round="bad", stage=Stage.TRAIN_PPM, worker="0")
    rounds.submit("bad", trainPpm={"nodes": 2}, lifecycle={"maxAttempts": 1})
    rounds.wait_for_success("good")
    rounds.wait_for_failure("bad", "AttemptsExhausted", "no rendezvous")
    for name in ("good", "bad"):
        rounds.wait_until_released(name)
        assert f"{name}-train-ppm-1-worker-0" in rounds.names(PODS, name)


def test_the_training_operators_crd_accepts_the_golden_jobs(rounds: RoundNamespace) -> None:
    jobs = [yaml.safe_load(file.read_text()) for file in sorted(GOLDEN.glob("pytorchjob-*.yaml"))]
    assert len(jobs) == 2
    for job in jobs:
        answer = rounds.api.create(
            PYTORCH_JOBS, rounds.namespace, job | {"metadata": _in_namespace(job, rounds)}, dry_run=True
        )
        # No field is dropped as unknown.
        job["spec"]["runPolicy"].setdefault("suspend", False)
        assert answer["spec"] == job["spec"]


def _in_namespace(job: dict[str, Any], rounds: RoundNamespace) -> dict[str, Any]:
    return {**job["metadata"], "namespace": rounds.namespace}

"""How the operator reads jobs, pods and Deployments, and what it does not take as proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from rstar_operator.observing.attempts import reported_progress

from rstar.cluster.api import CONFIG_MAPS, DEPLOYMENTS, PODS, PYTORCH_JOBS
from tests.support.operator.driving import run_to_end, running_rollout, simulation
from tests.support.operator.simulated import NAMESPACE, round_body


@pytest.mark.parametrize(
    ("code", "message", "reason", "sentence"),
    [
        (137, "", "OOMKilled", "out of memory (exit code 137)"),
        (137, '{"event":"shard stored"}', "Error", "killed (exit code 137), by its node for memory or by somebody"),
        (1, '{"error":"the store is away","exit_code":1}', "", "the store is away"),
        (1, "Traceback\n  File x\nValueError: no such marker", "", "exit code 1: ValueError: no such marker"),
        (143, "", "", "exit code 143"),
        (0, "", "", "it exited with code 0 but left no manifest"),
        (0, "not json", "", "it exited with code 0 but left no manifest"),
        (0, '{"manifest":"k","digest":"short"}', "", "it exited with code 0 but left no manifest"),
    ],
)
def test_a_failed_attempt_records_why_and_is_repeated_after_its_backoff(
    code: int, message: str, reason: str, sentence: str
) -> None:
    cluster, controllers, operator = running_rollout()
    controllers.finish(controllers.live_jobs()[0], code, message, reason)
    operator.settle()
    status = operator.status()
    assert sentence in status.attempts[0].reason
    assert status.condition("Ready").reason == "BackOff"  # type: ignore[union-attr]
    assert not controllers.live_jobs()
    cluster.now += timedelta(seconds=8)
    operator.settle()
    assert [job["metadata"]["name"] for job in controllers.live_jobs()] == ["r1-rollout-2"]


def test_a_stage_that_runs_out_of_memory_fails_after_its_attempts_with_the_reason() -> None:
    cluster, controllers, operator = running_rollout()
    for _ in range(6):
        for job in controllers.live_jobs():
            controllers.finish(job, 137, "", "OOMKilled")
        operator.settle()
        cluster.now += timedelta(hours=1)
        operator.settle()
        controllers.ready()
        cluster.settle()
    status = operator.status()
    failed = status.condition("Failed")
    assert failed is not None
    assert (failed.status, failed.reason) == ("True", "AttemptsExhausted")
    assert "out of memory (exit code 137)" in failed.message
    assert len([name for kind, name in cluster.objects if kind == PYTORCH_JOBS]) == 3


def test_raising_max_attempts_resumes_a_failed_round() -> None:
    cluster, controllers, operator = running_rollout()
    lifecycle = round_body()["spec"]["lifecycle"]
    cluster.edit("r1", lifecycle={**lifecycle, "maxAttempts": 1})
    controllers.finish(controllers.live_jobs()[0], 1)
    operator.settle()
    assert operator.status().phase == "Failed"
    cluster.edit("r1", lifecycle={**lifecycle, "maxAttempts": 2})
    cluster.now += timedelta(minutes=1)
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


@pytest.mark.parametrize("code", [1, 2])
def test_bad_input_fails_the_round_at_once_even_where_a_launcher_hides_the_exit_code(code: int) -> None:
    _, controllers, operator = running_rollout()
    controllers.finish(controllers.live_jobs()[0], code, '{"error":"no such problem file","exit_code":2}')
    operator.settle()
    status = operator.status()
    assert status.phase == "Failed"
    assert "no such problem file" in status.message


def test_a_termination_message_that_the_watch_has_not_brought_yet_is_read_from_the_api_server() -> None:
    cluster, controllers, operator = running_rollout()
    old_pod = cluster.cache()
    controllers.succeed(controllers.live_jobs()[0])
    for (kind, _), body in cluster.objects.items():
        if kind == PYTORCH_JOBS:
            old_pod.put(kind, body)
    operator.one_pass(cache=old_pod)
    assert operator.status().attempts[0].state == "succeeded"


def test_an_attempt_whose_node_was_taken_away_does_not_count_as_a_failure() -> None:
    cluster, controllers, operator = running_rollout()
    job = controllers.live_jobs()[0]
    controllers.finish(job, 137)
    pod = cluster.objects[PODS, "r1-rollout-1-master-0"]
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
    cluster.touch(PODS, "r1-rollout-1-master-0")
    operator.settle()
    status = operator.status()
    assert status.attempts[0].ending == "lost"
    assert status.stages[0].attempts == 0
    assert (status.stages[0].state, controllers.live_jobs()) == ("retrying", [])
    cluster.now += timedelta(seconds=60)
    operator.settle()
    assert [j["metadata"]["name"] for j in controllers.live_jobs()] == ["r1-rollout-2"]


def test_pods_of_an_earlier_job_of_the_same_name_are_ignored() -> None:
    cluster, controllers, operator = running_rollout()
    controllers.finish(controllers.live_jobs()[0], 1)
    pod = cluster.objects[PODS, "r1-rollout-1-master-0"]
    cluster.vanish(PYTORCH_JOBS, "r1-rollout-1")
    cluster.objects[PODS, "r1-rollout-1-master-0"] = pod
    operator.settle()
    controllers.start(controllers.live_jobs()[0])
    operator.settle()
    assert operator.status().attempts[0].state == "running"


def test_a_crashing_service_is_reported_and_fails_the_round_after_max_attempts() -> None:
    cluster, controllers, operator = simulation(round_body())
    operator.settle()
    name = next(n for kind, n in cluster.objects if kind == DEPLOYMENTS and "policy" in n)
    labels = cluster.objects[DEPLOYMENTS, name]["spec"]["template"]["metadata"]["labels"]
    ended = {"exitCode": 1, "reason": "Error", "message": "CUDA out of memory"}
    state = {
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    pod = {"kind": "Pod", "metadata": {"name": "p", "labels": labels}, "status": {"containerStatuses": [state]}}
    cluster.put(PODS, pod)
    operator.settle()
    assert "policy (exit code 1: CUDA out of memory)" in operator.status().message
    cluster.objects[PODS, "p"]["status"]["containerStatuses"][0]["restartCount"] = 3
    cluster.touch(PODS, "p")
    operator.settle()
    failed = operator.status().condition("Failed")
    assert failed is not None
    assert (failed.status, failed.reason) == ("True", "ServiceFailed")
    cluster.vanish(PODS, "p")
    cluster.edit("r1", services={"policy": {"slots": 4}})
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded", "an edit of the spec starts the service again"


def test_a_service_that_crashes_soon_after_every_start_never_gets_a_stage() -> None:
    cluster, controllers, operator = simulation(round_body())
    operator.settle()
    name = next(n for kind, n in cluster.objects if kind == DEPLOYMENTS and "policy" in n)
    body = cluster.objects[DEPLOYMENTS, name]
    assert body["spec"]["minReadySeconds"] >= 2
    for _ in range(3):
        # Its pod is ready between two crashes, for less than minReadySeconds.
        body["status"] = {"readyReplicas": 1, "unavailableReplicas": 1}
        cluster.touch(DEPLOYMENTS, name)
        operator.settle()
        assert operator.status().condition("Ready").reason == "ServicesStarting"  # type: ignore[union-attr]
        body["status"] = {"unavailableReplicas": 1}
        cluster.touch(DEPLOYMENTS, name)
        operator.settle()
    assert not [n for kind, n in cluster.objects if kind == DEPLOYMENTS and "search" in n]
    assert not controllers.live_jobs()
    controllers.ready()
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


def test_an_attempt_without_pods_reports_why_they_cannot_be_created() -> None:
    cluster, controllers, operator = simulation(round_body())
    for _ in range(3):
        operator.settle()
        controllers.ready()
    operator.settle()
    cluster.warnings = [{"lastTimestamp": "2030-01-01T00:00:00Z", "message": "exceeded quota: gpus"}]
    operator.settle()
    assert "exceeded quota: gpus" in operator.status().message


def test_progress_is_in_the_status_while_the_stage_runs() -> None:
    cluster, _, operator = running_rollout()
    body = cluster.objects[CONFIG_MAPS, "r1-rollout-1"]
    body["data"] = {"progress.json": '{"done": 3, "total": 10, "solved": 2, "tokens_per_second": 55.0}'}
    cluster.touch(CONFIG_MAPS, "r1-rollout-1")
    operator.reconciler = operator.fresh()
    operator.settle()
    status = operator.status()
    assert status.progress_text == "3/10"
    assert status.progress["tokens_per_second"] == 55.0
    body["data"] = {"progress.json": "{ broken"}
    cluster.touch(CONFIG_MAPS, "r1-rollout-1")
    operator.reconciler = operator.fresh()
    operator.settle()
    assert operator.status().progress_text == ""


def test_the_progress_of_an_attempt_is_not_taken_for_the_next_attempt() -> None:
    cluster, controllers, operator = running_rollout()
    cluster.objects[CONFIG_MAPS, "r1-rollout-1"]["data"] = {"progress.json": '{"done": 3, "total": 10}'}
    controllers.finish(controllers.live_jobs()[0], 1)
    operator.settle()
    cluster.now += timedelta(minutes=1)
    operator.settle()
    now = cluster.cache().snapshot((NAMESPACE, "r1"))
    assert now is not None
    assert [job["metadata"]["name"] for job in now.jobs] == ["r1-rollout-1", "r1-rollout-2"]
    assert reported_progress(replace(now, jobs=now.jobs[:1])) == {"done": 3, "total": 10}
    assert reported_progress(replace(now, progress=now.progress[:1])) == {}


def test_a_change_of_progress_alone_is_rate_limited() -> None:
    cluster, _, operator = running_rollout()
    before = cluster.writes
    for done in range(1, 20):
        body = cluster.objects[CONFIG_MAPS, "r1-rollout-1"]
        body["data"] = {"progress.json": f'{{"done": {done}, "total": 20}}'}
        cluster.touch(CONFIG_MAPS, "r1-rollout-1")
        operator.one_pass()
    assert cluster.writes - before <= 1

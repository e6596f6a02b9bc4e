"""TrainJobs as the training backend: how they are read, named, replaced and deleted, and what stops a second job."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest
from rstar_operator.backend import PyTorchJobBackend
from rstar_operator.snapshot import JobSeen
from rstar_operator.trainjob import TOO_EARLY, TrainJobBackend, job_name

from rstar.cluster.api import (
    CONFIG_MAPS,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    TRAIN_JOBS,
    TRAINING_RUNTIMES,
    ClusterError,
    Json,
    Kind,
)
from tests.support.operator.driving import Operator, run_to_end, running_rollout, simulation
from tests.support.operator.simulated import Controllers, SimulatedCluster, round_body

CREATED = datetime(2030, 1, 1, tzinfo=UTC)


def at(minutes: int) -> str:
    return f"{CREATED + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


def a_job(*conditions: Json, suspend: bool | None = None) -> Json:
    """Return a TrainJob that was created at minute 0."""
    spec: Json = {"runtimeRef": {"name": "r1-rollout-1-0123456789"}}
    if suspend is not None:
        spec["suspend"] = suspend
    return {"metadata": {"creationTimestamp": at(0)}, "spec": spec, "status": {"conditions": list(conditions)}}


def condition(kind: str, status: str, minute: int, message: str = "") -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": at(minute), "message": message}


def a_pod(state: str, minute: int) -> Json:
    return {"status": {"containerStatuses": [{"state": {state: {"startedAt": at(minute)}}}]}}


WAITING: Json = {"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}
FAILED = condition("Failed", "True", 9, "jobset failed")
COMPLETE = condition("Complete", "True", 9, "jobset completed")


@pytest.mark.parametrize(
    ("job", "pods", "state", "since", "started"),
    [
        (a_job(), (), "pending", 0, 0),
        (a_job(), (WAITING,), "pending", 0, 0),
        (a_job(), (WAITING, a_pod("running", 3), a_pod("running", 2)), "running", 2, 2),
        (a_job(), (a_pod("terminated", 2),), "running", 2, 2),
        (a_job(condition("Suspended", "True", 1), suspend=True), (), "queued", 0, 0),
        (a_job(suspend=True), (), "queued", 0, 0),
        (a_job(condition("Suspended", "False", 5), suspend=False), (), "pending", 5, 5),
        (a_job(condition("Suspended", "False", 5), suspend=False), (a_pod("running", 6),), "running", 6, 6),
        (a_job(FAILED), (a_pod("terminated", 2),), "failed", 9, 2),
        (a_job(condition("Suspended", "False", 5), FAILED), (), "failed", 9, 5),
        (a_job(COMPLETE), (a_pod("terminated", 2),), "succeeded", 9, 2),
        (a_job(condition("Failed", "False", 4)), (), "pending", 0, 0),
    ],
)
def test_a_job_is_read_from_its_conditions_and_its_pods(
    job: Json, pods: tuple[Json, ...], state: str, since: int, started: int
) -> None:
    seen = TrainJobBackend().read(job, pods)
    times = (CREATED + timedelta(minutes=since), CREATED + timedelta(minutes=started))
    assert (seen.state, seen.since, seen.started) == (state, *times)
    assert seen.runtime == "r1-rollout-1-0123456789"
    assert seen.stop_patch is None


@pytest.mark.parametrize(
    ("job", "suspended_first"),
    [(a_job(), True), (a_job(FAILED), True), (a_job(COMPLETE), False), (a_job(suspend=True), False)],
)
def test_a_job_whose_jobset_the_trainer_may_make_again_is_suspended_before_it_is_deleted(
    job: Json, suspended_first: bool
) -> None:
    patch = TrainJobBackend().read(job).deletion_patch
    assert patch == ({"spec": {"suspend": True}} if suspended_first else None)


def test_a_job_with_the_longest_name_of_a_round_has_pods_whose_names_fit() -> None:
    assert job_name("r1-rollout-1") == "r1-rollout-1"
    longest = [f"{'r' * 34}-train-policy-{number}" for number in (1, 99, 100)]
    names = [job_name(attempt) for attempt in longest]
    assert len(set(names)) == 3
    assert all(len(f"{name}-node-0-1023-abcde") <= 63 for name in names)


def names(cluster: SimulatedCluster, kind: Kind) -> list[str]:
    return sorted(name for k, name in cluster.objects if k == kind)


def test_a_round_succeeds_with_one_runtime_and_one_job_per_attempt() -> None:
    cluster, controllers, operator = simulation(round_body(), backend=TrainJobBackend())
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"
    jobs = names(cluster, TRAIN_JOBS)
    assert len(jobs) == 5
    assert [name.rpartition("-")[0] for name in names(cluster, TRAINING_RUNTIMES)] == jobs
    cluster.now += timedelta(days=365)
    operator.settle()
    cluster.settle()
    operator.settle()
    cluster.settle()
    assert names(cluster, TRAIN_JOBS) == names(cluster, TRAINING_RUNTIMES) == names(cluster, CONFIG_MAPS) == []
    assert operator.status().phase == "Succeeded"


def test_a_failed_attempt_is_repeated_by_the_operator() -> None:
    cluster, controllers, operator = running_rollout(TrainJobBackend())
    assert operator.status().attempts[0].state == "running"
    controllers.finish(controllers.live_jobs()[0], 137, "", "OOMKilled")
    operator.settle()
    assert "out of memory" in operator.status().attempts[0].reason
    cluster.now += timedelta(seconds=8)
    operator.settle()
    assert [job["metadata"]["name"] for job in controllers.live_jobs()] == ["r1-rollout-2"]


def test_a_success_without_a_termination_message_is_a_failure() -> None:
    _, controllers, operator = running_rollout(TrainJobBackend())
    controllers.finish(controllers.live_jobs()[0], 0)
    operator.settle()
    assert operator.status().attempts[0].reason == "it exited with code 0 but left no manifest"


def test_a_suspended_round_suspends_and_deletes_its_job_and_then_the_runtime() -> None:
    cluster, _, operator = running_rollout(TrainJobBackend())
    cluster.edit("r1", suspend=True)
    operator.settle()
    job = cluster.objects[TRAIN_JOBS, "r1-rollout-1"]
    assert job["spec"]["suspend"] is True
    assert "deletionTimestamp" in job["metadata"]
    assert len(names(cluster, TRAINING_RUNTIMES)) == 1, "the job may still need it"
    cluster.settle()
    operator.settle()
    cluster.settle()
    assert names(cluster, TRAIN_JOBS) == names(cluster, TRAINING_RUNTIMES) == []
    assert operator.status().stages[0].attempts == 0
    cluster.edit("r1", suspend=False)
    operator.settle()
    assert names(cluster, TRAIN_JOBS) == []
    assert operator.status().attempts[0].ending == "suspended"


def test_an_attempt_whose_pods_vanish_before_its_end_is_known_counts_as_lost() -> None:
    cluster, controllers, operator = running_rollout(TrainJobBackend())
    job = controllers.live_jobs()[0]
    started = operator.status().attempts[0].started_at
    cluster.vanish(PODS, "r1-rollout-1-master-0")
    operator.settle()
    assert (operator.status().attempts[0].state, operator.status().attempts[0].started_at) == ("running", started)
    controllers._set_condition(job, "Failed")
    operator.settle()
    assert (operator.status().attempts[0].state, operator.status().attempts[0].ending) == ("failed", "lost")


def test_pods_of_an_earlier_job_of_the_same_name_are_ignored() -> None:
    cluster, controllers, operator = running_rollout(TrainJobBackend())
    controllers.finish(controllers.live_jobs()[0], 1)
    pod = cluster.objects[PODS, "r1-rollout-1-master-0"]
    cluster.vanish(TRAIN_JOBS, "r1-rollout-1")
    cluster.objects[PODS, "r1-rollout-1-master-0"] = pod
    cluster.now += timedelta(seconds=5)
    operator.settle()
    assert operator.status().attempts[0].state == "pending"


def test_a_job_made_again_under_another_spec_gets_a_runtime_of_its_own() -> None:
    cluster, _, operator = running_rollout(TrainJobBackend())
    (before,) = names(cluster, TRAINING_RUNTIMES)
    cluster.refuse = {TRAIN_JOBS}
    cluster.vanish(TRAIN_JOBS, "r1-rollout-1")
    cluster.edit("r1", cluster={"resources": {"rollout": {"cpu": 3}}})
    operator.one_pass()
    cluster.refuse = set()
    operator.settle()
    cluster.settle()
    (after,) = names(cluster, TRAINING_RUNTIMES)
    assert before != after
    assert cluster.objects[TRAIN_JOBS, "r1-rollout-1"]["spec"]["runtimeRef"]["name"] == after


class _LaggingWebhook(SimulatedCluster):
    """Refuses the first TrainJobs, as the trainer does whose cache has no runtime yet."""

    lag = 2

    def create(self, kind: Kind, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        if kind == TRAIN_JOBS and self.lag:
            self.lag -= 1
            raise ClusterError(f"admission webhook denied: trainingRuntime {TOO_EARLY}", 403, "Forbidden")
        return super().create(kind, namespace, body, dry_run=dry_run)


def test_a_job_that_comes_before_its_runtime_is_known_is_created_soon_and_no_condition_reports_it() -> None:
    cluster = _LaggingWebhook(TrainJobBackend())
    controllers = Controllers(cluster)
    controllers.add_executor()
    cluster.put(ROUNDS, round_body())
    operator = Operator(cluster)
    for _ in range(3):
        operator.settle()
        controllers.ready()
    operator.settle()
    assert cluster.lag == 0
    assert len(names(cluster, TRAIN_JOBS)) == 1
    assert operator.status().condition("CreationRefused") is None


@pytest.mark.parametrize("backend", [TrainJobBackend(), PyTorchJobBackend()])
def test_a_job_of_the_other_backend_is_left_alone_and_no_second_job_runs_its_attempt(
    backend: TrainJobBackend | PyTorchJobBackend,
) -> None:
    """As after a change of the chart's ``operator.trainingBackend`` while a round runs."""
    other = PyTorchJobBackend() if isinstance(backend, TrainJobBackend) else TrainJobBackend()
    cluster, _, _ = running_rollout(other)
    before = copy.deepcopy(cluster.objects[other.kind, "r1-rollout-1"])
    cluster.backend = backend
    changed = Operator(cluster)
    for _ in range(3):
        changed.one_pass()
    assert names(cluster, backend.kind) == []
    assert cluster.objects[other.kind, "r1-rollout-1"] == before
    ready = changed.status().condition("Ready")
    assert ready is not None
    assert ready.reason == "NameConflict"
    word = "PyTorchJob" if other.kind == PYTORCH_JOBS else "TrainJob"
    assert f"{word} r1-rollout-1 is in the way" in ready.message
    cluster.vanish(other.kind, "r1-rollout-1")
    run_to_end(changed, Controllers(cluster))
    assert changed.status().phase == "Succeeded"


def test_a_job_tells_the_name_of_its_runtime_and_a_pytorchjob_has_none() -> None:
    job: Json = {"metadata": {"creationTimestamp": at(0)}, "spec": {}}
    seen: JobSeen = PyTorchJobBackend().read(job)
    assert (seen.runtime, seen.deletion_patch) == ("", None)

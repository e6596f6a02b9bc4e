"""Rounds as TrainJobs on a real API server, with the stock trainer and JobSet controller, under the chart's operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rstar_operator.trainjob import TOO_EARLY
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Run

from rstar.cluster.api import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    ROUNDS,
    SERVICES,
    TRAIN_JOBS,
    TRAINING_RUNTIMES,
    ClusterError,
    Json,
    Kind,
)
from rstar.cluster.names import ATTEMPT, STAGE
from rstar.rounds.observed import STAGES, Stage
from tests.operator.test_golden_pytorchjob import GOLDEN
from tests.support.cluster.chart_operator import chart_operator
from tests.support.cluster.crashes import CrashNamespace, kill_every_write_once, undisturbed
from tests.support.cluster.operators import SETTINGS
from tests.support.cluster.round_namespace import RoundNamespace, new_round_namespace
from tests.support.cluster.rounds import install_crds, install_prerequisites, result_of

pytestmark = pytest.mark.slow

FOREVER = Run()
JOBSETS = Kind("/apis/jobset.x-k8s.io/v1alpha2", "jobsets")
ALL_KINDS = (TRAIN_JOBS, TRAINING_RUNTIMES, JOBSETS, JOBS, PODS, CONFIG_MAPS, DEPLOYMENTS, SERVICES)
LONGEST_NAME = "a-round-with-the-longest-name-of34"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with the trainer and the JobSet controller, and without the training operator."""
    folder = tmp_path_factory.mktemp("trainer")
    with Testbed.start(folder, training_operator=False, minio=False, trainer=True) as bed:
        yield bed


@pytest.fixture(scope="module")
def operator(testbed: Testbed) -> Iterator[str]:
    """The chart's operator with TrainJobs as its backend; its user name. It never lacked a right."""
    with chart_operator(testbed, "--set=operator.trainingBackend=trainjob") as user:
        yield user


@pytest.fixture
def rounds(testbed: Testbed, operator: str) -> Iterator[RoundNamespace]:
    """A namespace of the test's own, in which rounds run."""
    with new_round_namespace(testbed, job_kind=TRAIN_JOBS) as rounds:
        yield rounds


def existing(rounds: RoundNamespace) -> list[str]:
    """Return KIND/NAME of everything in the namespace that a round, the trainer or a JobSet makes."""
    kept = {"kube-root-ca.crt", "rstar-executor"}
    return [
        f"{kind.plural}/{body['metadata']['name']}"
        for kind in ALL_KINDS
        for body in rounds.api.list(kind, rounds.namespace)
        if not any(body["metadata"]["name"].startswith(name) for name in kept)
    ]


def of_attempts(rounds: RoundNamespace) -> list[str]:
    """Return the pods of attempts that exist."""
    found = [pod["metadata"]["labels"] for pod in rounds.list_objects(PODS)]
    return sorted(f"{labels[STAGE]}-{labels[ATTEMPT]}" for labels in found if STAGE in labels)


def test_a_round_succeeds_with_one_trainjob_and_one_pod_per_stage(rounds: RoundNamespace) -> None:
    rounds.submit(LONGEST_NAME)
    assert len(LONGEST_NAME) == 34
    status = rounds.wait_for_success(LONGEST_NAME)
    assert [(r.stage, r.number, r.state) for r in status.attempts] == [(stage, 1, "succeeded") for stage in STAGES]
    assert len(rounds.jobs(LONGEST_NAME)) == 5
    assert of_attempts(rounds) == sorted(f"{stage}-1" for stage in STAGES)
    assert rounds.names(CONFIG_MAPS, LONGEST_NAME) == sorted(f"{LONGEST_NAME}-{stage}-1" for stage in STAGES)
    assert len(rounds.names(TRAINING_RUNTIMES, LONGEST_NAME)) == 5


def test_a_failed_attempt_is_retried_by_the_operator_alone_and_its_objects_go_after_their_ttl(
    rounds: RoundNamespace,
) -> None:
    rounds.script.set(Run(seconds=0, code=137, reason="OOMKilled"), stage=Stage.ROLLOUT, attempt="1")
    rounds.script.set(Run(seconds=0, code=1, message="no rendezvous"), stage=Stage.TRAIN_POLICY, attempt="1", node="1")
    rounds.submit("r1", trainPolicy={"nodes": 2}, lifecycle={"maxAttempts": 2, "backoffSeconds": 3, "ttlSeconds": 5})
    rounds.wait_for_reason("r1", "BackOff", "out of memory (exit code 137)")
    status = rounds.wait_for_success("r1")
    failed = [(r.stage, r.number, r.state, r.reason) for r in status.attempts if r.state == "failed"]
    assert [each[:3] for each in failed] == [("rollout", 1, "failed"), ("train-policy", 1, "failed")]
    assert "no rendezvous" in failed[1][3]
    rounds.wait_until(lambda: existing(rounds) == [], "no objects of the attempts")
    assert rounds.get(ROUNDS, "r1") is not None


def pods_created_for_jobs(rounds: RoundNamespace) -> int:
    """Return how many pods the Jobs of the namespace have had so far, also those that nobody saw."""
    with rounds.bed.audit_log.open() as lines:
        entries = [json.loads(line) for line in lines if '"create"' in line and '"pods"' in line]
    return sum(
        entry["objectRef"]["namespace"] == rounds.namespace
        and entry["objectRef"]["resource"] == "pods"
        and entry.get("responseStatus", {}).get("code") == 201
        and entry["userAgent"].endswith("job-controller")
        for entry in entries
        if entry["stage"] == "ResponseComplete" and "objectRef" in entry
    )


def test_suspension_ends_all_pods_and_no_attempt_ever_has_a_second_one(rounds: RoundNamespace) -> None:
    stages = (Stage.ROLLOUT, Stage.TRAIN_POLICY)
    for stage in stages:
        rounds.script.set(FOREVER, stage=stage, attempt="1")
    rounds.submit("r1", lifecycle={"maxAttempts": 1}, trainPolicy={"nodes": 2})
    for stage in stages:
        rounds.wait_for_running("r1", stage)
        rounds.edit("r1", suspend=True)
        rounds.wait_for_reason("r1", "Suspended")
        rounds.wait_until(
            lambda stage=stage: f"r1-{stage}-1" not in rounds.jobs("r1") and f"{stage}-1" not in of_attempts(rounds),
            "no job and no pod of the attempt",
        )
        rounds.edit("r1", suspend=False)
    status = rounds.wait_for_success("r1")
    assert [stage.attempts for stage in status.stages] == [0] * 5
    assert [(r.stage, r.ending) for r in status.attempts if r.ending] == [(stage, "suspended") for stage in stages]
    # Rollout and SFT twice, SFT with two pods each time.
    assert pods_created_for_jobs(rounds) == 9


def test_a_failed_job_that_is_deleted_has_no_pod_again(rounds: RoundNamespace) -> None:
    rounds.script.set(Run(seconds=0, code=2, message='{"error": "no problems", "exit_code": 2}'), stage=Stage.ROLLOUT)
    rounds.submit("r1", lifecycle={"ttlSeconds": 1})
    rounds.wait_for_failure("r1", "BadInput", "no problems")
    rounds.wait_until(lambda: existing(rounds) == [], "no objects of the attempt")
    assert pods_created_for_jobs(rounds) == 1


def test_in_a_queue_a_stage_waits_until_it_is_admitted(rounds: RoundNamespace) -> None:
    rounds.submit("r1", cluster={"queue": "lab-queue"})
    for stage in STAGES:
        job = rounds.wait_for_object(TRAIN_JOBS, f"r1-{stage}-1")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab-queue"
        assert job["spec"]["suspend"] is True
        rounds.wait_for_reason("r1", "StageQueued")
        assert f"{stage}-1" not in of_attempts(rounds)
        # As Kueue does when it admits the job.
        rounds.kubectl("patch", "trainjob", f"r1-{stage}-1", "--type=merge", '--patch={"spec": {"suspend": false}}')
    rounds.wait_for_success("r1")
    assert pods_created_for_jobs(rounds) == 5


def test_several_nodes_meet_by_the_name_of_the_first_and_any_of_them_may_report_the_result(
    rounds: RoundNamespace,
) -> None:
    rounds.script.set(Run(seconds=0), stage=Stage.TRAIN_POLICY, node="0")
    rounds.script.set(FOREVER, stage=Stage.TRAIN_POLICY, node="1")
    rounds.submit("r1", trainPolicy={"nodes": 2, "processesPerNode": 4}, lifecycle={"maxAttempts": 1})
    rounds.wait_for_running("r1", "train-policy")
    rounds.wait_until(lambda: len(rounds.list_objects(PODS, "r1", stage="train-policy")) == 2, "two pods")
    (reporting,) = rounds.list_objects(PODS, "r1", stage="train-policy", node="1")
    environment = {each["name"]: each.get("value") for each in reporting["spec"]["containers"][0]["env"]}
    names = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT")
    first = "r1-train-policy-1-node-0-0.r1-train-policy-1"
    assert [environment[name] for name in names] == ["2", "4", first, "29500"]
    rounds.kubelet.end(rounds.namespace, reporting["metadata"]["name"], message=result_of(reporting))
    rounds.wait_for_success("r1")


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_round_deleted_in_the_middle_leaves_nothing(rounds: RoundNamespace, cascade: str) -> None:
    rounds.script.set(FOREVER, stage=Stage.TRAIN_POLICY)
    rounds.submit("r1", trainPolicy={"nodes": 2})
    rounds.wait_for_running("r1", "train-policy")
    rounds.kubectl("delete", "er", "r1", f"--cascade={cascade}", "--timeout=180s")
    rounds.wait_until(lambda: existing(rounds) == [], "no children of the round")


def test_a_namespace_is_deleted_with_its_rounds(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    rounds.submit("r1", cluster={"deletionPolicy": "DeleteArtifacts"})
    rounds.wait_for_running("r1", "rollout")
    rounds.bed.kubectl("delete", "namespace", rounds.namespace, "--timeout=180s")
    assert rounds.bed.kubectl("get", "namespace", rounds.namespace, "--ignore-not-found") == ""


def test_the_trainers_crds_and_webhooks_accept_the_golden_objects(rounds: RoundNamespace) -> None:
    files = sorted(GOLDEN.glob("trainjob-*.yaml"))
    assert len(files) == 2
    for file in files:
        runtime, job = yaml.safe_load_all(file.read_text())
        for kind, body in ((TRAINING_RUNTIMES, runtime), (TRAIN_JOBS, job)):
            body["metadata"] |= {"namespace": rounds.namespace, "ownerReferences": []}
            answer = rounds.wait_until(lambda kind=kind, body=body: _created(rounds, kind, body), f"a {kind.plural}")
            assert _includes(answer["spec"], body["spec"]), "no field is dropped as unknown"


def _created(rounds: RoundNamespace, kind: Kind, body: Json) -> Json | None:
    try:
        # As the operator does while the webhook does not know the runtime yet. The jobs have one name.
        return rounds.api.create(kind, rounds.namespace, body, dry_run=kind == TRAIN_JOBS)
    except ClusterError as error:
        if TOO_EARLY not in str(error):
            raise
        return None


def _includes(found: Any, wanted: Any) -> bool:
    """Return whether ``found`` has all of ``wanted``, beside defaults."""
    if isinstance(wanted, dict):
        return all(key in found and _includes(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_includes, found, wanted))
    return bool(found == wanted)


@pytest.mark.timeout(1200)
def test_a_kill_after_any_write_leaves_the_same_children_and_status(testbed: Testbed) -> None:
    install_crds(testbed)
    testbed.kubectl("create", "namespace", "crashes")
    install_prerequisites(testbed, "crashes")
    space = CrashNamespace(testbed, "crashes", {**SETTINGS, "trainingBackend": "trainjob"})
    expected, writes = undisturbed(space)
    assert len({each.name for each in writes if each.kind == "trainingruntimes"}) == 5
    histories = kill_every_write_once(space, expected, writes, kills_per_round=12)
    assert {each.round: each.differences for each in histories if each.differences} == {}
    testbed.kubectl("delete", "namespace", "crashes", "--wait=false")

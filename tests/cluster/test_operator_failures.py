"""Failures in a cluster, on a real API server under the chart's operator: how they are reported, and how rounds end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Pending, Run, Waiting

from rstar.cluster.api import PODS
from rstar.rounds.observed import Stage
from rstar.rounds.status import AttemptStatus, RoundStatus
from tests.support.cluster.round_namespace import RoundNamespace, new_round_namespace

FOREVER = Run()
FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def attempts_of(status: RoundStatus, stage: str = "rollout") -> list[AttemptStatus]:
    return [record for record in status.attempts if record.stage == stage]


def test_a_stage_that_runs_out_of_memory_is_retried_with_backoff_and_then_fails(rounds: RoundNamespace) -> None:
    rounds.script.set(Run(seconds=0, code=137, reason="OOMKilled"), stage=Stage.ROLLOUT)
    rounds.submit("r1", lifecycle={"maxAttempts": 2, "backoffSeconds": 4})
    status = rounds.wait_for_reason("r1", "BackOff", "out of memory (exit code 137)")
    first = attempts_of(status)[0]
    assert first.finished_at is not None
    again = first.finished_at + timedelta(seconds=4)
    assert f"stage rollout is tried again at {again:%H:%M:%S}" in status.message
    assert rounds.columns("r1")["REASON"] == "BackOff"
    status = rounds.wait_for_failure(
        "r1", "AttemptsExhausted", "stage rollout failed 2 times: out of memory (exit code 137)"
    )
    assert [(r.state, r.exit_code) for r in attempts_of(status)] == [("failed", 137), ("failed", 137)]
    assert attempts_of(status)[1].started_at >= again
    columns = rounds.columns("r1")
    assert (columns["READY"], columns["REASON"]) == ("False", "AttemptsExhausted")
    assert "raise memory in spec.cluster.resources" in rounds.columns("r1", "-o", "wide")["MESSAGE"]
    rounds.wait_until_released("r1")
    # With more attempts, and more memory, the round resumes.
    rounds.script.set(Run(seconds=0.2, message=""), stage=Stage.ROLLOUT, attempt="3")
    rounds.edit("r1", lifecycle={"maxAttempts": 3})
    # A success without a manifest is a failure.
    status = rounds.wait_for_failure(
        "r1", "AttemptsExhausted", "stage rollout failed 3 times: it exited with code 0 but left no manifest"
    )
    assert attempts_of(status)[2].exit_code == 0
    rounds.script.rules.clear()
    rounds.edit("r1", lifecycle={"maxAttempts": 4, "backoffSeconds": 0})
    assert len(attempts_of(rounds.wait_for_success("r1"))) == 4


def test_refused_input_fails_the_round_at_once_with_the_programs_message(rounds: RoundNamespace) -> None:
    refusal = json.dumps({"error": "store:train.jsonl has no problems: add some", "exit_code": 2})
    rounds.script.set(Run(seconds=0, code=2, message=refusal), round="plain", stage=Stage.ROLLOUT)
    # torchrun hides the program's exit code.
    rounds.script.set(Run(seconds=0, code=1, message=refusal), round="launched", stage=Stage.TRAIN_POLICY)
    for name in ("plain", "launched"):
        rounds.submit(name)
    for name, stage in (("plain", "rollout"), ("launched", "train-policy")):
        words = f"stage {stage} refuses its input: store:train.jsonl has no problems: add some"
        status = rounds.wait_for_failure(name, "BadInput", words)
        assert [(r.number, r.exit_code) for r in attempts_of(status, stage)] == [(1, 2)]


def test_a_stage_past_its_deadline_is_ended(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.SELECT)
    rounds.submit("r1", lifecycle={"maxAttempts": 1})
    rounds.wait_for_running("r1", "select")
    rounds.edit("r1", lifecycle={"deadlineSeconds": 2})
    status = rounds.wait_for_failure("r1", "AttemptsExhausted", "stage select failed once: it ran past its deadline")
    assert attempts_of(status, "select")[0].ending == "deadline"
    rounds.wait_until_released("r1")


def test_the_reason_why_pods_wait_is_reported_until_they_have_waited_too_long(rounds: RoundNamespace) -> None:
    rounds.script.set(Pending(FULL), round="full", stage=Stage.ROLLOUT)
    pull = 'Back-off pulling image "rstar/jobs:0.1.0"'
    rounds.script.set(Waiting("ImagePullBackOff", pull), round="pulling", stage=Stage.ROLLOUT)
    rounds.script.set(Pending(FULL), round="serving", component="policy")
    rounds.script.set(
        Run(seconds=0.2, message="a line\nCUDA out of memory\n", code=1), round="crashing", component="policy"
    )
    rounds.script.set(Waiting("ErrImagePull", "not found"), round="partly", stage=Stage.TRAIN_POLICY, worker="1")
    rounds.script.set(FOREVER, round="partly", stage=Stage.TRAIN_POLICY, worker="0")
    for name in ("full", "pulling", "serving", "crashing"):
        rounds.submit(name)
    rounds.submit("partly", trainPolicy={"nodes": 2})
    rounds.wait_for_reason("full", "StagePending", f"stage rollout waits for its pods: {FULL}")
    rounds.wait_for_reason("pulling", "StagePending", f"stage rollout waits for its pods: ImagePullBackOff: {pull}")
    rounds.wait_for_reason("serving", "ServicesStarting", f"waiting for services: policy ({FULL})")
    rounds.wait_for_reason("partly", "StagePending", "stage train-policy waits for its pods: ErrImagePull: not found")
    for name in ("full", "partly"):
        rounds.edit(name, lifecycle={"pendingSeconds": 1, "maxAttempts": 1})
        status = rounds.wait_for_failure(name, "AttemptsExhausted", "failed once: ")
        assert status.attempts[-1].ending == "unscheduled"
        rounds.wait_until_released(name)
    rounds.wait_for_failure(
        "crashing", "ServiceFailed", "the policy service failed 3 times: exit code 1: CUDA out of memory"
    )
    rounds.wait_until(lambda: not rounds.live_pods("crashing"), "no service of a round that has failed")
    # Any change of the spec starts another try.
    rounds.script.set(Run(), round="crashing", component="policy")
    rounds.edit("crashing", lifecycle={"maxAttempts": 4})
    rounds.wait_for_success("crashing")


def test_evicted_and_preempted_pods_cost_no_attempt(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.SELECT)
    for name in ("evicted", "preempted"):
        rounds.submit(name, lifecycle={"maxAttempts": 1})
    pods = {name: rounds.wait_for_pod(name, "select")["metadata"]["name"] for name in ("evicted", "preempted")}
    for name in pods:
        rounds.wait_for_running(name, "select")
    rounds.script.rules.clear()
    # As the drain of a node does: the pod is deleted.
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pods["evicted"]}}
    path = f"/api/v1/namespaces/{rounds.namespace}/pods/{pods['evicted']}/eviction"
    rounds.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    # As after a node's failure: the pod stays, with this condition.
    # Without its time the control plane takes the condition for an old one and sets it to False.
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    rounds.kubectl("patch", "pod", pods["preempted"], "--subresource=status", "--type=strategic", f"--patch={patch}")
    rounds.kubelet.end(rounds.namespace, pods["preempted"], code=143)
    status = rounds.wait_for_success("preempted")
    assert [(r.state, r.ending) for r in attempts_of(status, "select")] == [("failed", "lost"), ("succeeded", None)]
    # The training operator may create the pod again before it reports the failure.
    attempts = attempts_of(rounds.wait_for_success("evicted"), "select")
    assert [r.ending for r in attempts] in ([None], ["lost", None])
    for name in pods:
        assert [stage.attempts for stage in rounds.wait_for_success(name).stages] == [0] * 5


@contextlib.contextmanager
def round_namespaces(bed: Testbed, *names: str) -> Iterator[dict[str, RoundNamespace]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(new_round_namespace(bed)) for name in names}


def limit(rounds: RoundNamespace, **hard: str) -> None:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "lab"}, "spec": {"hard": hard}}

    def counted() -> bool:
        # The quota controller discovers a new kind within half a minute; it reads older quotas only minutes later.
        rounds.kubectl("replace", "--force", "-f", "-", input=yaml.safe_dump(body))
        looks = ("--for=jsonpath={.status.used}", "resourcequota/lab", "-n", rounds.namespace, "--timeout=3s")
        return "condition met" in rounds.bed.kubectl("wait", *looks, check=False)

    rounds.wait_until(counted, "a quota that counts")


@pytest.mark.usefixtures("operator")
def test_refusals_by_a_quota_are_reported_and_the_round_resumes_without_the_quota(testbed: Testbed) -> None:
    # Executors take one of each. A controller whose pods are refused retries ever less often, so that these come first.
    quotas = {
        "pod of the job": {"pods": "3"},
        "its pod": {"pods": "1"},
        "deployment": {"count/deployments.apps": "1"},
        "job": {"count/pytorchjobs.kubeflow.org": "0"},
    }
    words = {
        "deployment": ("CreationRefused", "limited: count/deployments.apps=1"),
        "its pod": ("ServicesStarting", "exceeded quota: lab"),
        "job": ("CreationRefused", "PyTorchJob r1-rollout-1 was refused"),
        "pod of the job": ("StagePending", "exceeded quota: lab"),
    }
    with round_namespaces(testbed, *quotas) as found:
        for name, rounds in found.items():
            rounds.wait_until(partial(rounds.api.list, PODS, rounds.namespace), "an executor")
            limit(rounds, **quotas[name])
            rounds.submit("r1")
        for name, rounds in found.items():
            status = rounds.wait_for_reason("r1", *words[name])
            refused = status.condition("CreationRefused")
            assert (refused is not None and refused.status == "True") == (words[name][0] == "CreationRefused")
            rounds.kubectl("delete", "resourcequota", "lab")
            # The operator tries again by itself, and at once after a change of the round.
            rounds.edit("r1", lifecycle={"ttlSeconds": 3600})
        for rounds in found.values():
            status = rounds.wait_for_success("r1")
            cleared = status.condition("CreationRefused")
            assert cleared is None or cleared.status == "False"
            assert len(attempts_of(status)) == 1


def test_a_stage_whose_pod_is_refused_reports_the_reason(rounds: RoundNamespace) -> None:
    rounds.kubectl("delete", "serviceaccount", "rstar-stage")
    rounds.submit("r1")
    rounds.wait_for_reason("r1", "StagePending", 'serviceaccount "rstar-stage" not found')

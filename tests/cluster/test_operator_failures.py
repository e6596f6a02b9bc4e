"""What goes wrong in a cluster, on a real API server under the chart's operator: how it is told, and how it ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Pending, Run, Waiting

from rstar.cluster.api import PODS
from rstar.rounds.observed import Stage
from rstar.rounds.status import AttemptStatus, RoundStatus
from tests.support.cluster.lab import Lab, open_lab

FOREVER = Run()
FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def told_of(status: RoundStatus, stage: str = "rollout") -> list[AttemptStatus]:
    return [record for record in status.attempts if record.stage == stage]


def test_a_stage_that_runs_out_of_memory_is_tried_with_pauses_and_then_given_up(lab: Lab) -> None:
    lab.script.on(Run(seconds=0, code=137, reason="OOMKilled"), stage=Stage.ROLLOUT)
    lab.submit("r1", lifecycle={"maxAttempts": 2, "backoffSeconds": 4})
    status = lab.ready_is("r1", "BackOff", "out of memory (exit code 137)")
    first = told_of(status)[0]
    assert first.finished_at is not None
    again = first.finished_at + timedelta(seconds=4)
    assert f"stage rollout is tried again at {again:%H:%M:%S}" in status.message
    assert lab.columns("r1")["REASON"] == "BackOff"
    status = lab.fails("r1", "AttemptsExhausted", "stage rollout failed 2 times: out of memory (exit code 137)")
    assert [(r.state, r.exit_code) for r in told_of(status)] == [("failed", 137), ("failed", 137)]
    assert told_of(status)[1].started_at >= again
    columns = lab.columns("r1")
    assert (columns["READY"], columns["REASON"]) == ("False", "AttemptsExhausted")
    assert "raise memory in spec.cluster.resources" in lab.columns("r1", "-o", "wide")["MESSAGE"]
    lab.released("r1")
    # With more attempts, and more memory, it goes on where it was.
    lab.script.on(Run(seconds=0.2, message=""), stage=Stage.ROLLOUT, attempt="3")
    lab.edit("r1", lifecycle={"maxAttempts": 3})
    # A success that leaves no manifest is a failure like any other.
    status = lab.fails("r1", "AttemptsExhausted", "stage rollout failed 3 times: it ended well but left no manifest")
    assert told_of(status)[2].exit_code == 0
    lab.script.lines.clear()
    lab.edit("r1", lifecycle={"maxAttempts": 4, "backoffSeconds": 0})
    assert len(told_of(lab.succeeds("r1"))) == 4


def test_input_that_is_refused_fails_the_round_at_once_in_the_programs_words(lab: Lab) -> None:
    refusal = json.dumps({"error": "store:train.jsonl has no problems: add some", "exit_code": 2})
    lab.script.on(Run(seconds=0, code=2, message=refusal), round="plain", stage=Stage.ROLLOUT)
    # A launcher has exit codes of its own.
    lab.script.on(Run(seconds=0, code=1, message=refusal), round="launched", stage=Stage.TRAIN_POLICY)
    for name in ("plain", "launched"):
        lab.submit(name)
    for name, stage in (("plain", "rollout"), ("launched", "train-policy")):
        words = f"stage {stage} refuses its input: store:train.jsonl has no problems: add some"
        status = lab.fails(name, "BadInput", words)
        assert [(r.number, r.exit_code) for r in told_of(status, stage)] == [(1, 2)]


def test_a_stage_past_its_deadline_is_ended(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.SELECT)
    lab.submit("r1", lifecycle={"maxAttempts": 1})
    lab.runs("r1", "select")
    lab.edit("r1", lifecycle={"deadlineSeconds": 2})
    status = lab.fails("r1", "AttemptsExhausted", "stage select failed once: it ran past its deadline")
    assert told_of(status, "select")[0].ending == "deadline"
    lab.released("r1")


def test_what_keeps_pods_from_running_is_told_until_they_have_waited_too_long(lab: Lab) -> None:
    lab.script.on(Pending(FULL), round="full", stage=Stage.ROLLOUT)
    pull = 'Back-off pulling image "rstar/jobs:0.1.0"'
    lab.script.on(Waiting("ImagePullBackOff", pull), round="pulling", stage=Stage.ROLLOUT)
    lab.script.on(Pending(FULL), round="serving", component="policy")
    lab.script.on(
        Run(seconds=0.2, message="a line\nCUDA out of memory\n", code=1), round="crashing", component="policy"
    )
    lab.script.on(Waiting("ErrImagePull", "not found"), round="partly", stage=Stage.TRAIN_POLICY, worker="1")
    lab.script.on(FOREVER, round="partly", stage=Stage.TRAIN_POLICY, worker="0")
    for name in ("full", "pulling", "serving", "crashing"):
        lab.submit(name)
    lab.submit("partly", trainPolicy={"nodes": 2})
    lab.ready_is("full", "StagePending", f"stage rollout waits for its pods: {FULL}")
    lab.ready_is("pulling", "StagePending", f"stage rollout waits for its pods: ImagePullBackOff: {pull}")
    lab.ready_is("serving", "ServicesStarting", f"waiting for services: policy ({FULL})")
    lab.ready_is("partly", "StagePending", "stage train-policy waits for its pods: ErrImagePull: not found")
    for name in ("full", "partly"):
        lab.edit(name, lifecycle={"pendingSeconds": 1, "maxAttempts": 1})
        status = lab.fails(name, "AttemptsExhausted", "failed once: ")
        assert status.attempts[-1].ending == "unscheduled"
        lab.released(name)
    lab.fails("crashing", "ServiceFailed", "the policy service failed 3 times: exit code 1: CUDA out of memory")
    lab.becomes(lambda: not lab.live_pods("crashing"), "no service of a round that has failed")
    # Any change of the spec is the sign to try again.
    lab.script.on(Run(), round="crashing", component="policy")
    lab.edit("crashing", lifecycle={"maxAttempts": 4})
    lab.succeeds("crashing")


def test_pods_that_are_taken_away_cost_no_attempt(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.SELECT)
    for name in ("evicted", "preempted"):
        lab.submit(name, lifecycle={"maxAttempts": 1})
    pods = {name: lab.pod(name, "select")["metadata"]["name"] for name in ("evicted", "preempted")}
    for name in pods:
        lab.runs(name, "select")
    lab.script.lines.clear()
    # As the drain of a node does it: the pod is gone afterwards.
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pods["evicted"]}}
    path = f"/api/v1/namespaces/{lab.namespace}/pods/{pods['evicted']}/eviction"
    lab.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    # As the node's end is told of a pod that stays.
    told = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    patch = json.dumps({"status": {"conditions": [told]}})
    lab.kubectl("patch", "pod", pods["preempted"], "--subresource=status", "--type=strategic", f"--patch={patch}")
    lab.kubelet.end(lab.namespace, pods["preempted"], code=143)
    status = lab.succeeds("preempted")
    assert [(r.state, r.ending) for r in told_of(status, "select")] == [("failed", "lost"), ("succeeded", None)]
    # The training operator may have made the pod anew before it told that it had failed.
    attempts = told_of(lab.succeeds("evicted"), "select")
    assert [r.ending for r in attempts] in ([None], ["lost", None])
    for name in pods:
        assert [stage.attempts for stage in lab.succeeds(name).stages] == [0] * 5


@contextlib.contextmanager
def labs(bed: Testbed, *names: str) -> Iterator[dict[str, Lab]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(open_lab(bed)) for name in names}


def limit(lab: Lab, **hard: str) -> None:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "lab"}, "spec": {"hard": hard}}

    def counted() -> bool:
        # The cluster learns of a new kind within half a minute; a quota from before that it looks at minutes later.
        lab.kubectl("replace", "--force", "-f", "-", input=yaml.safe_dump(body))
        looks = ("--for=jsonpath={.status.used}", "resourcequota/lab", "-n", lab.namespace, "--timeout=3s")
        return "condition met" in lab.bed.kubectl("wait", *looks, check=False)

    lab.becomes(counted, "a quota that counts")


@pytest.mark.usefixtures("operator")
def test_what_a_quota_refuses_is_told_and_goes_on_when_there_is_room(testbed: Testbed) -> None:
    # Executors take one of each. Who is refused pods asks ever less often, so that these come first.
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
    with labs(testbed, *quotas) as found:
        for name, lab in found.items():
            lab.becomes(partial(lab.api.list, PODS, lab.namespace), "an executor")
            limit(lab, **quotas[name])
            lab.submit("r1")
        for name, lab in found.items():
            status = lab.ready_is("r1", *words[name])
            refused = status.condition("CreationRefused")
            assert (refused is not None and refused.status == "True") == (words[name][0] == "CreationRefused")
            lab.kubectl("delete", "resourcequota", "lab")
            # It is tried again by itself, and at once when the round changes.
            lab.edit("r1", lifecycle={"ttlSeconds": 3600})
        for lab in found.values():
            status = lab.succeeds("r1", seconds=120)
            cleared = status.condition("CreationRefused")
            assert cleared is None or cleared.status == "False"
            assert len(told_of(status)) == 1


def test_a_stage_that_may_not_have_a_pod_in_this_namespace_says_why(lab: Lab) -> None:
    lab.kubectl("delete", "serviceaccount", "rstar-stage")
    lab.submit("r1")
    lab.ready_is("r1", "StagePending", 'serviceaccount "rstar-stage" not found')

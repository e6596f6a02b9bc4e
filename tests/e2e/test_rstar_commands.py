"""``rstar`` on a real node: the logs of containers, and a pod that uses its ServiceAccount.

The image of the operator stands for all others: it is small, and holds the command line.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed

from rstar.cluster.names import COMPONENT, ROUND
from rstar.rounds.observed import AttemptState, Stage
from tests.e2e.conftest import UseImages
from tests.support.cluster.pods import NamespaceClient, pod
from tests.support.cluster.rounds import install_crds
from tests.support.cluster.user_shell import UserShell, attempt, stage_pod


@pytest.fixture(scope="module")
def image(testbed: Testbed, use_images: UseImages) -> str:
    install_crds(testbed)
    testbed.kubectl("get", "er", "-A")  # Within the first second the server answers "try again", and kubectl does.
    return use_images("operator")["operator"]


@pytest.fixture
def submitted(testbed: Testbed, namespace: str, image: str, tmp_path: Path) -> UserShell:
    """The shell of a user who has submitted two rounds, r1 and r2."""
    shell = UserShell(NamespaceClient(testbed, namespace), tmp_path, tmp_path / "bytecode")
    shell.submit()
    return shell


def test_logs_of_an_attempts_pods_are_prefixed_with_their_names(submitted: UserShell, image: str) -> None:
    client = submitted.client
    client.apply(stage_pod("r1-rollout-1", "echo early; echo late", 1, image=image))
    workers = [f"r1-rollout-2-worker-{i}" for i in range(2)]
    # The logs come in the order in which the pods were created, within a second by name.
    client.apply(*(stage_pod(name, f"echo hello {name}; echo bye {name}", 2, image=image) for name in workers))
    for name in ("r1-rollout-1", *workers):
        client.pod_in(name, "Succeeded")
    lost = attempt(Stage.ROLLOUT, 1, AttemptState.FAILED, 1)
    submitted.report("r1", [lost, attempt(Stage.ROLLOUT, 2, AttemptState.RUNNING)])
    lines = [json.loads(line) for line in submitted.rstar("logs", "r1", "--json").out.splitlines()]
    assert [(line["source"], line["text"]) for line in lines] == [
        (name, f"{word} {name}") for name in workers for word in ("hello", "bye")
    ]
    assert f"[{workers[1]}] hello {workers[1]}\n" in submitted.rstar("logs", "r1").out
    assert submitted.rstar("logs", "r1", "--attempt", "1", "--tail", "1").out == "late\n"
    assert submitted.rstar("logs", "r1", "--all", "--tail", "1").out.splitlines()[0] == "late"
    client.bed.kubectl("delete", "pod", "r1-rollout-1", "-n", submitted.namespace)
    gone = submitted.rstar("logs", "r1", "--attempt", "1")
    assert gone.code == 1
    assert "the log of rollout 1 no longer exists" in gone.err


def test_logs_are_followed_from_before_a_pod_runs_until_it_ends(submitted: UserShell, image: str) -> None:
    submitted.report("r1", [attempt(Stage.ROLLOUT, 1, AttemptState.PENDING)])
    missing = f"{image.partition('/')[0]}/rstar/missing:1"
    reader = submitted.begin("logs", "r1", "-f")
    try:
        assert reader.stdout is not None
        assert reader.stderr is not None
        submitted.client.apply(stage_pod("r1-rollout-1-worker-1", "true", image=missing))
        # Each new reason is a line; the pull fails a moment after the pod was created.
        reason = next(line for line in reader.stderr if "ImagePull" in line)
        assert "r1-rollout-1-worker-1 has not started" in reason
        assert missing in reason
        submitted.client.apply(stage_pod("r1-rollout-1-worker-0", "echo first; sleep 1; echo last", image=image))
        assert reader.stdout.readline() == "first\n"
        assert reader.stdout.readline() == "last\n"
        submitted.client.bed.kubectl("delete", "pod", "r1-rollout-1-worker-1", "-n", submitted.namespace)
        out, err = reader.communicate(timeout=300)
    finally:
        reader.kill()
    assert (out, reader.returncode) == ("", 0), err


def test_logs_of_the_rounds_services_and_of_the_shared_executors_are_shown(submitted: UserShell, image: str) -> None:
    policy = pod("r1-policy-0", "echo policy here", container={"name": "policy", "image": image})
    policy["metadata"]["labels"] |= {ROUND: "r1", COMPONENT: "policy"}
    executor = pod("rstar-executor-0", "echo executor here", container={"name": "executor", "image": image})
    executor["metadata"]["labels"] |= {COMPONENT: "executor"}
    submitted.client.apply(policy, executor)
    for name in ("r1-policy-0", "rstar-executor-0"):
        submitted.client.pod_in(name, "Succeeded")
    assert submitted.rstar("logs", "r1", "--service", "policy").out == "policy here\n"
    assert submitted.rstar("logs", "r2", "--service", "executor").out == "executor here\n"
    missing = submitted.rstar("logs", "r2", "--service", "policy")
    assert missing.code == 1
    assert "there are no pods" in missing.err


def test_inside_the_cluster_the_pods_service_account_is_used(submitted: UserShell, image: str) -> None:
    bed, namespace = submitted.client.bed, submitted.namespace
    rights = ("--verb=get,list", "--resource=evolutionrounds.rstar.dev")
    bed.kubectl("create", "role", "looks", "-n", namespace, *rights)
    account = f"--serviceaccount={namespace}:default"
    bed.kubectl("create", "rolebinding", "looks", "-n", namespace, "--role=looks", account)
    container = {"image": image, "command": ["rstar", "status", "-n", namespace, "--json"]}
    submitted.client.apply(pod("inside", container=container))
    submitted.client.pod_in("inside", "Succeeded", "Failed")
    found = json.loads(bed.kubectl("logs", "inside", "-n", namespace))
    assert list(found["statuses"]) == ["r1", "r2"]

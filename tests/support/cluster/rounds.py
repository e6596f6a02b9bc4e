"""Rounds on a real API server: the objects that they need, their pods' behaviour, and the wait for a status.

Scripted pods: the pod of a stage ends with the termination message of the stage's program, the pod of a service runs until it
is deleted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Pod, Run

from rstar.cluster.api import ROUNDS, Cluster, Json
from rstar.cluster.names import EXECUTOR_SERVICE, PART_OF, ROUND, STAGE
from rstar.rounds.pair_accuracy import PairAccuracy
from rstar.rounds.status import RoundStatus
from tests.support.cluster.established import await_crds
from tests.support.cluster.pods import SECONDS, wait_until
from tests.support.paths import CRD, EVOLUTION_CRD

METRICS: Mapping[str, Any] = PairAccuracy(0.9, 0.8, 90, 30).metrics() | {
    "solved": 7,
    "problems": 10,
    "coverage": 0.7,
}
ENDED = ("Succeeded", "Failed")


def install_crds(bed: Testbed) -> None:
    """Install the CRDs of rounds and evolutions."""
    files = [f"--filename={path}" for path in (CRD, EVOLUTION_CRD)]
    bed.kubectl("apply", "--server-side", "--force-conflicts", *files)
    await_crds(bed)


def install_prerequisites(bed: Testbed, namespace: str, *, executor: bool = True) -> None:
    """Create what the charts install in a namespace: the ServiceAccount of stages and, if wanted, executors."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rstar-stage"}}
    objects = [account, *([executor_deployment()] if executor else [])]
    bed.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(objects))


def executor_deployment() -> Json:
    """Return the Deployment of executors, with the chart's name and labels."""
    labels = {PART_OF: "rstar", "app.kubernetes.io/component": "executor"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "executor", "image": "executor:1", "command": ["true"]}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": EXECUTOR_SERVICE, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def round_body(name: str, number: int = 1, **spec: Any) -> Json:
    """Return a round as a user applies it, with one evaluation and a short backoff; ``spec`` adds to it or replaces parts."""
    evaluate = {"problems": {"uri": "store:held-out.jsonl"}, "methods": [{"name": "greedy", "method": "greedy"}]}
    plain: Json = {
        "round": number,
        "baseModel": "store:base",
        "problems": {"uri": "store:train.jsonl"},
        "evaluate": evaluate,
        "lifecycle": {"maxAttempts": 3, "backoffSeconds": 1},
    }
    body = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound", "metadata": {"name": name}}
    return {**body, "spec": plain | spec}


def stage_of(pod: Pod) -> str | None:
    """Return the pod's stage; None for a pod of a service."""
    stage: str | None = pod["metadata"]["labels"].get(STAGE)
    return stage


def result_of(pod: Pod) -> str:
    """Return the termination message of a stage that succeeds, the same for each of its attempts."""
    round_name, stage = pod["metadata"]["labels"][ROUND], stage_of(pod)
    digest = hashlib.sha256(f"{round_name} {stage}".encode()).hexdigest()
    manifest = f"rounds/{round_name}/{stage}/0/manifest.json"
    return json.dumps({"manifest": manifest, "digest": digest, "metrics": METRICS})


def all_succeed(seconds: float = 0.2) -> ChooseBehaviour:
    """Return the behaviour of pods where every stage takes ``seconds`` and succeeds, and services are ready at once."""

    def choose(pod: Pod) -> Behaviour:
        return Run(seconds=seconds, message=result_of(pod)) if stage_of(pod) else Run()

    return choose


def admin_client(bed: Testbed) -> Cluster:
    """Return a client of the API server with an admin's rights."""
    return Cluster.connect(bed.kubeconfig, user_agent="rstar-tests")


def status_of(body: Json | None) -> RoundStatus | None:
    """Return a round's status; None while it has none, or where there is no round."""
    status = (body or {}).get("status") or {}
    return RoundStatus.model_validate(status) if "phase" in status else None


def wait_for_round(
    cluster: Cluster,
    namespace: str,
    name: str,
    done: Callable[[RoundStatus], bool] = lambda status: status.phase in ENDED,
    seconds: float = 90,
) -> RoundStatus:
    """Return the status once ``done`` holds: by default, once the round has ended."""
    deadline = time.monotonic() + seconds
    while True:
        status = status_of(cluster.get(ROUNDS, namespace, name))
        if status is not None and done(status):
            return status
        if time.monotonic() > deadline:
            last = f"{status.phase}, {status.stage}: {status.message}" if status else "no status"
            pytest.fail(f"round {name} in {namespace} is not as expected after {seconds:.0f} s: {last}")
        time.sleep(0.1)


def message_with(bed: Testbed, namespace: str, name: str, *words: str, seconds: float = SECONDS) -> str:
    """Return the first message of the condition Ready that has all the words; it may take a minute (a pull's first backoff)."""

    def look() -> str | None:
        status = json.loads(bed.kubectl("get", "er", name, "-n", namespace, "-o", "json")).get("status", {})
        texts = [each["message"] for each in status.get("conditions", []) if each["type"] == "Ready"]
        return next((text for text in texts if all(word in text for word in words)), None)

    return wait_until(look, f"a condition of {name} with {words}", seconds)

"""Rounds under a real operator on a real API server: what such tests start with, and how they wait for an end.

Pods are played by the test kubelet: a stage's pod leaves the message that the stage program would leave, everything
else runs until it is deleted. The operator runs as a process of its own, which can be killed, or in a thread. The
module judges nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from kubernetes.config import kube_config
from rstar_operator.backend import PyTorchJobBackend
from rstar_operator.cache import Cache
from rstar_operator.configuration import Configuration
from rstar_operator.reconcile import Reconciler
from rstar_operator.watching import Watcher
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Pod, Run

from rstar.cluster.api import ROUNDS, Cluster, Json
from rstar.cluster.names import EXECUTOR_SERVICE, PART_OF, ROUND, STAGE
from rstar.local.die_with_parent import PR_SET_PDEATHSIG
from rstar.rounds.status import RoundStatus
from tests.support.paths import CRD

SETTINGS: Mapping[str, Any] = {"images": {"policy": "policy:1", "ppm": "ppm:1", "search": "search:1", "jobs": "jobs:1"}}
METRICS: Mapping[str, Any] = {"pair_accuracy": 0.9, "solved": 7, "problems": 10}
ENDED = ("Succeeded", "Failed")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["rstar_operator.main", "rstar_operator.watching", "tests.support.cluster.operating"])


def install_crd(bed: Testbed) -> None:
    """Make the API server know rounds."""
    bed.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    bed.kubectl("wait", "--for=condition=Established", "crd/evolutionrounds.rstar.dev", "--timeout=60s")


def furnish(bed: Testbed, namespace: str, *, executor: bool = True) -> None:
    """Put into a namespace what the tenant's chart and the installation bring: the account of stages, executors."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rstar-stage"}}
    objects = [account, *([executor_deployment()] if executor else [])]
    bed.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(objects))


def executor_deployment() -> Json:
    """Return executors as the chart names and labels them."""
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
    """Return a round as a user applies it: one evaluation, short pauses; ``spec`` adds to it or replaces parts."""
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
    """Return the stage whose pod it is; None: a service's."""
    stage: str | None = pod["metadata"]["labels"].get(STAGE)
    return stage


def result_of(pod: Pod) -> str:
    """Return the termination message of a stage that went well: the same for every attempt of it."""
    round_name, stage = pod["metadata"]["labels"][ROUND], stage_of(pod)
    digest = hashlib.sha256(f"{round_name} {stage}".encode()).hexdigest()
    manifest = f"rounds/{round_name}/{stage}/0/manifest.json"
    return json.dumps({"manifest": manifest, "digest": digest, "metrics": METRICS})


def going_well(seconds: float = 0.2) -> ChooseBehaviour:
    """Return the player of a cluster where every stage takes ``seconds`` and every service is ready at once."""

    def play(pod: Pod) -> Behaviour:
        return Run(seconds=seconds, message=result_of(pod)) if stage_of(pod) else Run()

    return play


def look(bed: Testbed) -> Cluster:
    """Return a client for looking at the cluster as its admin."""
    return Cluster.connect(bed.kubeconfig, user_agent="rstar-tests")


def status_of(body: Json | None) -> RoundStatus | None:
    """Return a round's status; None while there is none, or no round."""
    status = (body or {}).get("status") or {}
    return RoundStatus.model_validate(status) if "phase" in status else None


def wait_for_round(
    cluster: Cluster,
    namespace: str,
    name: str,
    done: Callable[[RoundStatus], bool] = lambda status: status.phase in ENDED,
    seconds: float = 90,
) -> RoundStatus:
    """Return the status once ``done`` says so: by default, once the round has ended."""
    until = time.monotonic() + seconds
    while True:
        status = status_of(cluster.get(ROUNDS, namespace, name))
        if status is not None and done(status):
            return status
        if time.monotonic() > until:
            told = f"{status.phase}, {status.stage}: {status.message}" if status else "no status"
            pytest.fail(f"round {name} in {namespace} did not get there within {seconds:.0f} s: {told}")
        time.sleep(0.1)


class OperatorProcess(contextlib.AbstractContextManager["OperatorProcess"]):
    """``rstar-operator run``, as a process that can be killed like one. Its log stays in ``folder``.

    It is forked off a process that has imported everything, which takes longer than all that an operator does first.
    """

    def __init__(
        self, kubeconfig: Path, *namespaces: str, folder: Path, settings: Mapping[str, Any] = SETTINGS
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "operator.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        self.log = folder / "operator.log"
        arguments = ["run", f"--config={config}", "--liveness="]
        arguments += [f"--namespace={namespace}" for namespace in namespaces]
        self._work = (str(kubeconfig), str(self.log), arguments)
        self.restart()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill it without warning."""
        self._process.kill()
        self._process.join()

    def terminate(self) -> int:
        """Ask it to end; return its exit code once it has."""
        self._process.terminate()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def restart(self) -> None:
        """Start it again once it has ended; the log goes on."""
        self._process = _FORKS.Process(target=_operate, args=self._work, daemon=True)
        self._process.start()

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self.kill()


def _operate(kubeconfig: str, log: str, arguments: list[str]) -> None:
    """Be the operator."""
    from rstar_operator.main import app

    # The process that forked this one ends with the tests.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with Path(log).open("ab") as out:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(out.fileno(), stream.fileno())
    os.environ["KUBECONFIG"] = kubeconfig
    # The kubernetes package has looked at the environment already, when it was imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = kubeconfig
    app(arguments)


def reconciler_of(cluster: Cluster, configuration: Configuration, cache: Cache) -> Reconciler:
    """Return what makes an operator's passes."""
    return Reconciler(cluster, configuration, PyTorchJobBackend(), cache.put)


@contextlib.contextmanager
def operator_in_process(
    kubeconfig: Path,
    *namespaces: str,
    settings: Mapping[str, Any] = SETTINGS,
    resync_seconds: float = 600,
    reconciling: Callable[[Cluster, Configuration, Cache], Any] = reconciler_of,
) -> Iterator[Watcher]:
    """Run an operator in a thread of this process, until the ``with`` ends. It must not have died meanwhile.

    ``reconciling``: what makes the passes, if not a ``Reconciler`` as it is.
    """
    configuration = Configuration.model_validate(settings)
    cluster = Cluster.connect(kubeconfig, user_agent="rstar-operator")
    cache = Cache()
    made = reconciling(cluster, configuration, cache)
    watching = Watcher(cluster, made, cache, namespaces, configuration.workers, resync_seconds)
    stop = threading.Event()
    died: list[BaseException] = []

    def run() -> None:
        try:
            watching.run(liveness=None, stop=stop)
        except BaseException as error:
            died.append(error)

    # kopf looks for its credentials where kubectl does, and again when they are refused.
    with mock.patch.dict(os.environ, KUBECONFIG=str(kubeconfig)):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield watching
        finally:
            stop.set()
            thread.join()
    if died:
        raise died[0]

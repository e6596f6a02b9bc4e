"""Operators for tests: a process of its own, which can be killed, or a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from kubernetes.config import kube_config
from rstar_operator.backends import backend_of
from rstar_operator.cache import Cache
from rstar_operator.configuration import Configuration
from rstar_operator.reconcile import Reconciler
from rstar_operator.reconcile_evolution import EvolutionReconciler
from rstar_operator.watching import Watcher

from rstar.cluster.api import Cluster
from rstar.local.die_with_parent import PR_SET_PDEATHSIG

SETTINGS: Mapping[str, Any] = {
    "images": {"policy": "policy:1", "ppm": "ppm:1", "search": "search:1", "jobs": "jobs:1", "vllm": "vllm:1"}
}

STOP_SECONDS = 120.0
"""How long an operator may take to end: far more than its running passes need."""

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    ["rstar_operator.main", "rstar_operator.watching", "tests.support.cluster.operators"]
)


class OperatorProcess(contextlib.AbstractContextManager["OperatorProcess"]):
    """``rstar-operator run`` as a process of its own. Its log is in ``folder``.

    It is forked from a process that has imported everything: the imports take longer than an operator's first pass.
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
        self._arguments = (str(kubeconfig), str(self.log), arguments)
        self.restart()

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.join()

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end and return the exit code."""
        self._process.terminate()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def restart(self) -> None:
        """Start it again after its end. It appends to the same log."""
        self._process = _FORKSERVER.Process(target=_run_operator, args=self._arguments, daemon=True)
        self._process.start()

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self.kill()


def _run_operator(kubeconfig: str, log: str, arguments: list[str]) -> None:
    """Run the operator's command line in this process."""
    from rstar_operator.main import app

    # The fork server, this process's parent, ends with the tests.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with Path(log).open("ab") as out:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(out.fileno(), stream.fileno())
    os.environ["KUBECONFIG"] = kubeconfig
    # The kubernetes package read the environment when it was imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = kubeconfig
    app(arguments)


def reconciler_of(cluster: Cluster, configuration: Configuration, cache: Cache) -> Reconciler:
    """Return the reconciler of an operator."""
    return Reconciler(cluster, configuration, backend_of(configuration), cache.put)


def pending_tasks(watcher: Watcher) -> str:
    """Return where each task of a watcher's event loop waits."""
    resyncing = watcher._resyncing
    if resyncing is None:
        return "it has not started"
    return "\n".join(f"{task!r} {task.get_stack(limit=3)}" for task in asyncio.all_tasks(resyncing.get_loop()))


@contextlib.contextmanager
def operator_in_process(
    kubeconfig: Path,
    *namespaces: str,
    settings: Mapping[str, Any] = SETTINGS,
    resync_seconds: float = 600,
    make_reconciler: Callable[[Cluster, Configuration, Cache], Any] = reconciler_of,
) -> Iterator[Watcher]:
    """Run an operator in a thread of this process until the ``with`` ends; raise its error if it failed."""
    configuration = Configuration.model_validate(settings)
    cluster = Cluster.connect(kubeconfig, user_agent="rstar-operator")
    cache = Cache(backend_of(configuration).kinds)
    reconciler = make_reconciler(cluster, configuration, cache)
    evolutions = EvolutionReconciler(cluster, cache.put)
    keda = configuration.autoscaling.kind == "keda"
    watcher = Watcher(
        cluster, reconciler, evolutions, cache, namespaces, configuration.workers, resync_seconds, keda=keda
    )
    stop = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            watcher.run(liveness=None, stop=stop)
        except BaseException as error:
            errors.append(error)

    # kopf takes its credentials from where kubectl does, and again whenever they are refused.
    with mock.patch.dict(os.environ, KUBECONFIG=str(kubeconfig)):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield watcher
        finally:
            stop.set()
            thread.join(STOP_SECONDS)
            assert not thread.is_alive(), f"the operator does not end: {pending_tasks(watcher)}"
    if errors:
        raise errors[0]

"""The faults of ``benchmarks.chaos``: which one comes next, and how each is made on a testbed with a node."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rstar_testbed.cluster import Testbed

from rstar.cluster.names import COMPONENT, ROUND, STAGE

POD_SELECTORS: Final = {
    "operator": f"{COMPONENT}=operator",
    "executor": f"{COMPONENT}=executor",
    "search": f"{COMPONENT}=search,{ROUND}",
    "policy": f"{COMPONENT}=policy,{ROUND}",
    "ppm": f"{COMPONENT}=ppm,{ROUND}",
    "stage": STAGE,
}
"""Labels of the pods of each kind."""

METHODS: Final = ("deleted", "deleted at once", "killed")
"""What befalls a pod: a deletion, which lets it drain; one without a grace period; SIGKILL of its processes, as out of memory."""

MACHINES: Final = ("store", "API server", "node")
DOWN_SECONDS: Final = (2.0, 12.0)
"""How long the store, the API server or the node is down."""


@dataclass(frozen=True)
class Fault:
    """One fault: a kind of :data:`POD_SELECTORS` with one of :data:`METHODS`, or one of :data:`MACHINES` with ``restarted``."""

    kind: str
    method: str


@dataclass(frozen=True)
class Made:
    """A fault that happened ``at`` seconds after the rounds were applied. ``victim``: the pod, or the kind."""

    at: float
    fault: Fault
    victim: str


class Deck:
    """Faults in random order, endlessly. Every fault comes up once before any comes up again."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._waiting: list[Fault] = []

    def next(self, present: Collection[str]) -> Fault:
        """Return the next fault of a kind in ``present``; faults of absent kinds stay for later. The machines are always present."""
        here = {*present, *MACHINES}
        while True:
            for fault in self._waiting:
                if fault.kind in here:
                    self._waiting.remove(fault)
                    return fault
            self._waiting += self._shuffled()

    def _shuffled(self) -> list[Fault]:
        pods = [Fault(kind, method) for kind in POD_SELECTORS for method in METHODS]
        faults = pods + [Fault(kind, "restarted") for kind in MACHINES]
        self._random.shuffle(faults)
        return faults

    def pause(self, mean: float) -> float:
        """Return the seconds to the next fault: exponential, so that faults come close together too."""
        return self._random.expovariate(1 / mean)

    def seconds_down(self) -> float:
        """Return how long a machine is down."""
        return self._random.uniform(*DOWN_SECONDS)

    def one_of(self, names: list[str]) -> str:
        """Return one of the names."""
        return self._random.choice(sorted(names))


class Cluster:
    """The pods and machines of a testbed that faults befall. ``namespaces``: those of the operator and of the rounds."""

    def __init__(self, bed: Testbed, namespaces: tuple[str, str]) -> None:
        self._bed = bed
        self._namespaces = namespaces

    def running(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Return (namespace, id of the first container) of the running pods, by kind and name."""
        return {kind: dict(self._pods(selector)) for kind, selector in POD_SELECTORS.items()}

    def make(self, deck: Deck) -> tuple[Fault, str]:
        """Make the next fault; return it with its victim. It is over when this returns, but for the recovery."""
        running = self.running()
        fault = deck.next([kind for kind, pods in running.items() if pods])
        if fault.kind in MACHINES:
            self._restart(fault.kind, deck.seconds_down())
            return fault, fault.kind
        pods = running[fault.kind]
        name = deck.one_of(list(pods))
        namespace, container = pods[name]
        if fault.method == "killed":
            assert self._bed.node is not None
            for process in self._bed.node.namespaces.container_processes(container):
                _kill(process)
        else:
            at_once = ("--grace-period=0", "--force") if fault.method == "deleted at once" else ()
            # The pod may have ended meanwhile.
            words = ("delete", "pod", name, "-n", namespace, "--wait=false", "--ignore-not-found", *at_once)
            self._bed.kubectl(*words)
        return fault, name

    def _restart(self, machine: str, seconds: float) -> None:
        assert self._bed.node is not None
        assert self._bed.minio is not None
        restart: Callable[[Callable[[], None]], None] = {
            "store": self._bed.minio.restart,
            "API server": self._bed.restart_apiserver,
            "node": self._bed.node.restart,
        }[machine]
        restart(lambda: time.sleep(seconds))

    def _pods(self, selector: str) -> Iterator[tuple[str, tuple[str, str]]]:
        for namespace in self._namespaces:
            found = self._bed.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
            for pod in json.loads(found)["items"]:
                if container := _running_container(pod):
                    yield pod["metadata"]["name"], (namespace, container)


def _running_container(pod: dict[str, Any]) -> str:
    """Return the id of a running pod's first container; '' when the pod does not run or is being deleted."""
    if "deletionTimestamp" in pod["metadata"]:
        return ""
    statuses = pod["status"].get("containerStatuses", [])
    if not statuses or "running" not in statuses[0]["state"]:
        return ""
    return str(statuses[0]["containerID"].partition("://")[2])


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return

"""Observations of a tenant's rounds while they run, and the faults that befall them meanwhile. The tests check what is recorded."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from rstar.cluster.api import DEPLOYMENTS, EVENTS, ROUNDS, Json
from rstar.cluster.names import COMPONENT, ROUND
from rstar.rounds.status import RoundStatus
from tests.support.cluster.lab import BUCKET, Tenant
from tests.support.cluster.rounds import status_of

SECONDS = 2_700
"""Far more than an idle machine needs: a stage spends most of its time importing torch, which a busy machine slows."""


@contextlib.contextmanager
def kubectl_watch(tenant: Tenant, output: Path) -> Iterator[None]:
    """Run ``kubectl get evolutionrounds --watch`` in the background, as a user does in a terminal."""
    command = [str(tenant.bed.binaries["kubectl"]), "get", "evolutionrounds", "--watch", "-n", tenant.namespace]
    with output.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(tenant.user)}, stdout=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@dataclass
class Observations:
    """Observations while the rounds ran. ``served``: by stage, the kinds of model services that existed while it ran."""

    statuses: dict[str, RoundStatus] = field(default_factory=dict)
    progress: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    served: dict[str, set[str]] = field(default_factory=dict)

    def update(self, tenant: Tenant) -> None:
        """Record the present state."""
        api = tenant.api
        bodies = {body["metadata"]["name"]: body for body in api.list(ROUNDS, tenant.namespace)}
        found = {name: status for name, body in bodies.items() if (status := status_of(body))}
        for name, status in found.items():
            attempt = next((a for a in status.attempts if a.state == "running"), None)
            if attempt is None:
                continue
            texts = self.progress.setdefault((name, attempt.stage, attempt.number), [])
            if status.progress_text and status.progress_text not in texts[-1:]:
                texts.append(status.progress_text)
            served = self.served.setdefault(attempt.stage, set())
            served |= {
                labels_of(body)[COMPONENT] for body in api.list(DEPLOYMENTS, tenant.namespace, f"{ROUND}={name}")
            }
        self.statuses = found


def labels_of(body: Json) -> dict[str, str]:
    """Return an object's labels."""
    labels: dict[str, str] = body["metadata"]["labels"]
    return labels


def wait_for_rounds(
    tenant: Tenant, seen: Observations, names: list[str], faults: Mapping[str, Callable[[], None]]
) -> None:
    """Observe until every round has succeeded. A fault happens once, as soon as one shard of the round of its name is stored."""
    deadline = time.monotonic() + SECONDS
    coming = dict(faults)
    while True:
        seen.update(tenant)
        for name in [name for name in coming if shards(tenant, name)]:
            coming.pop(name)()
        phases = {name: seen.statuses[name].phase for name in names if name in seen.statuses}
        if list(phases.values()) == ["Succeeded"] * len(names):
            return
        if "Failed" in phases.values() or time.monotonic() > deadline:
            statuses = [f"{name}: {s.phase}: {s.message}" for name, s in seen.statuses.items()]
            pytest.fail(f"the rounds do not end: {statuses}\n{tenant.kubectl('get', 'pods,events')}")
        time.sleep(0.2 if coming else 1)


def shards(tenant: Tenant, name: str) -> dict[str, datetime | None]:
    """Return when each shard of a round's rollout was stored, by name."""
    assert tenant.bed.minio is not None
    folder = f"{tenant.namespace}/rounds/{name}/rollout/"
    found = tenant.bed.minio.client().list_objects(BUCKET, prefix=folder, recursive=True)
    return {str(item.object_name): item.last_modified for item in found if str(item.object_name).endswith(".parquet")}


def lose_node(namespace: str, attempt: str) -> None:
    """Kill an attempt and its policy with SIGKILL, as a lost node does.

    Both, because a policy that keeps running has cached prefixes of the interrupted problem, which changes its rounding.
    """
    policy = pids_of("rstar_policy", f"/{namespace}")
    stage = pids_of("rstar_jobs.rollout", f"configmap:{attempt}", f".{namespace}.svc")
    assert len(policy) == 1
    assert len(stage) == 1
    for process in (*policy, *stage):
        os.kill(process, signal.SIGKILL)


def pids_of(module: str, *words: str) -> list[int]:
    """Return the processes that run a module and have these texts in their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().decode(errors="replace").split("\0")
            if module in arguments[1:4] and all(word in " ".join(arguments) for word in words):
                found.append(int(entry.parent.name))
    return found


def events(tenant: Tenant, name: str) -> list[tuple[str, str]]:
    """Return (reason, message) of the Events about a round, in the order in which they were posted."""
    found = tenant.api.list(
        EVENTS, tenant.namespace, fields=f"involvedObject.kind=EvolutionRound,involvedObject.name={name}"
    )
    found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [(event["reason"], event["message"]) for event in found]

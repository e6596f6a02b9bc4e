"""Rounds whose programs all run: the steps of a cluster admin and of a tenant's user, from the installation to the last round.

The admin installs the operator and sets a tenant up with the charts. The user installs executors, uploads a base model and
games to the tenant's folder of MinIO, applies the rounds and watches them. All pods are real processes. ``rstar run`` runs
the same rounds on a folder at the same time. This module records observations; the tests check them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
import yaml
from rstar_testbed.cluster import Testbed

from rstar.cluster.api import DEPLOYMENTS, EVENTS, ROUNDS, Cluster, Json
from rstar.cluster.inputs import Input, namespace_store, upload
from rstar.cluster.names import COMPONENT, ROUND
from rstar.rounds.status import RoundStatus
from rstar.store.s3_store import S3Store
from tests.support.cluster.rendering import WITHOUT_PROMETHEUS
from tests.support.cluster.rounds import status_of
from tests.support.paths import ROOT

GAME24 = ROOT / "examples/game24"
RSTAR = str(Path(sysconfig.get_path("scripts")) / "rstar")
ROUNDS_APPLIED = 4
PROBLEMS, SHARD = 12, 4
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SECONDS = 2_700
"""Far more than an idle machine needs: a stage spends most of its time importing torch, which a busy machine slows."""


def tiny_rounds(count: int) -> str:
    """Return ``count`` rounds of the quick example, as small as possible with work for every stage.

    One search at a time, so that results do not depend on which calls share a batch: the same seed gives the same bytes. A
    PPM guides the third round; the last one is evaluated.
    """
    limits = {"seconds": 60, "memoryMib": 256, "outputBytes": 4096, "fileMib": 1}
    documents = []
    for number in range(1, count + 1):
        spec = yaml.safe_load((GAME24 / "quick.yaml").read_text())["spec"]["template"]
        kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
        body = {**kind, "metadata": {"name": f"r{number}"}, "spec": spec}
        spec |= {"round": number, "lifecycle": {"backoffSeconds": 1}}
        if number > 1:
            spec["previousRound"] = f"r{number - 1}"
        spec["rollout"] |= {"concurrency": 1, "shardSize": SHARD}
        # On games this small a tree soon has a correct trajectory; the wrong ones, which pairs need too, take more tokens.
        spec["rollout"]["search"] |= {"tokenBudget": 500, "candidates": 8, "rollouts": 50, "execution": limits}
        spec["preferenceModel"] = {"use": "always" if number == 3 else "auto"}
        spec["select"] |= {"minVisits": 1, "heldOutFraction": 0.2}
        # A policy that learns more solves every game, and without wrong trajectories there are no pairs.
        spec["trainPolicy"] |= {"maxTrainTokens": 1_000, "batchSize": 16, "learningRate": 1e-4}
        spec["trainPpm"] |= {"maxTrainTokens": 1_000, "batchSize": 16}
        greedy, _, guided = spec["evaluate"]["methods"]
        guided |= {"tokenBudget": 60, "rollouts": 3}
        methods = [method | {"execution": limits} for method in (greedy, guided)]
        spec["evaluate"] |= {"concurrency": 1, "methods": methods}
        if number < count:
            del spec["evaluate"]
        documents.append(json.loads(json.dumps(body)))
    return yaml.safe_dump_all(documents)


def make_games(store: Path) -> None:
    """Write games to a folder store, and to ``others.jsonl`` those that the base model must not see: all but the training games."""
    sizes = [f"--train=3:{PROBLEMS}", "--validation=3:2", "--held-out=3:4"]
    command = [RSTAR, "data", "make", "game24", f"--out={store / 'data'}", *sizes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (store / "data/train.jsonl").read_text().splitlines()
    seen = {tuple(sorted(json.loads(line)["nums"])) for line in lines}
    others = [game for game in combinations_with_replacement(range(1, 11), 3) if game not in seen]
    (store / "others.jsonl").write_text("".join(json.dumps({"nums": game}) + "\n" for game in others))


def start_base_model(store: Path) -> subprocess.Popen[bytes]:
    """Start training a base model on the training games alone: it soon solves some games and fails others."""
    skilled = "import pretrain, typer; pretrain.SKILL = 0.5; typer.run(pretrain.main)"
    plays = [f"--exclude={store / 'others.jsonl'}", "--plays=4000", "--sizes=3"]
    command = [sys.executable, "-c", skilled, f"--out={store / 'models/base'}", *plays]
    environment = ONE_THREAD | {"PYTHONPATH": str(GAME24)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@dataclass(frozen=True)
class Tenant:
    """A tenant's namespace, the admin's namespace with the operator, and the kubeconfig and client of one of the tenant's users."""

    bed: Testbed
    namespace: str
    admin: str
    user: Path
    api: Cluster

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """Run kubectl as the tenant's user."""
        return self.bed.kubectl("-n", self.namespace, *words, input=input, kubeconfig=self.user)


def install_operator(bed: Testbed, admin: str, *more: str) -> None:
    """Install what an admin installs once per cluster, with the documented values: the operator, the CRD, the roles.

    ``more``: further options of helm, here and in the next two functions.
    """
    values = ROOT / "charts/rstar/ci/operator-values.yaml"
    # An uninstalled chart leaves its CRD, so that an earlier test's may exist.
    options = [f"--values={values}", WITHOUT_PROMETHEUS, "--take-ownership", *more]
    bed.helm("install", "rstar", str(ROOT / "charts/rstar"), "-n", admin, *options)


def set_up_tenant(bed: Testbed, admin: str, namespace: str, *more: str) -> Tenant:
    """Install what an admin installs once per tenant: a namespace with quota and policies, and a MinIO user."""
    assert bed.minio is not None
    keys = [f"--from-literal=user={bed.minio.access_key}", f"--from-literal=password={bed.minio.secret_key}"]
    bed.kubectl("create", "secret", "generic", "minio-admin", "-n", admin, *keys)
    values = f"namespace={namespace},access.groups={{{namespace}}},minioUser.enabled=true"
    where = f"storage.endpoint={bed.minio.endpoint},storage.bucket={namespace}"
    bed.helm("install", "tenant", str(ROOT / "charts/rstar-tenant"), "-n", admin, f"--set={values},{where}", *more)
    user = bed.user_kubeconfig(f"user-of-{namespace}", (namespace,))
    return Tenant(bed, namespace, admin, user, Cluster.connect(user, user_agent="rstar-tests"))


def install_executors(tenant: Tenant, *more: str) -> None:
    """Install executors as the tenant's user, with the documented values."""
    chart, values = ROOT / "charts/rstar", ROOT / "charts/rstar/ci/tenant-values.yaml"
    words = ("install", "rstar", str(chart), "-n", tenant.namespace, f"--values={values}", *more)
    tenant.bed.helm(*words, kubeconfig=tenant.user)


def wait_for_installation(tenant: Tenant) -> None:
    """Wait with the commands of the charts' notes."""
    bed, admin = tenant.bed, tenant.admin
    bed.kubectl("wait", "--for=condition=Complete", "job", "--all", "-n", admin, "--timeout=900s")
    bed.kubectl("rollout", "status", "deployment/rstar-operator", "-n", admin, "--timeout=900s")
    tenant.kubectl("rollout", "status", "deployment/rstar-executor", "--timeout=900s")


def fill_store(tenant: Tenant, folder: Path) -> S3Store:
    """Upload base model and games from a folder store to the tenant's store, with the tenant's keys; return the latter."""
    store = namespace_store(tenant.api, tenant.namespace, "rstar-storage", {})
    keys = ("models/base", "data/train.jsonl", "data/held-out.jsonl")
    upload([Input(folder / key, key) for key in keys], store, lambda _: None)
    return store


@contextlib.contextmanager
def local_run(store: Path, rounds: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the rounds with ``rstar run`` in the background."""
    command = [RSTAR, "run", str(rounds), f"--store={store}"]
    with output.open("w") as out:
        process = subprocess.Popen(command, env=ONE_THREAD, stdout=out, stderr=out)
        try:
            yield process
        finally:
            # SIGTERM: the driver ends its child processes.
            process.terminate()
            process.wait()


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
    stored_before_loss: dict[str, datetime | None] = field(default_factory=dict)

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


def wait_for_rounds(tenant: Tenant, seen: Observations, names: list[str]) -> None:
    """Observe until every round has succeeded; lose a node as soon as one shard of the first round is stored."""
    deadline = time.monotonic() + SECONDS
    lost = False
    while True:
        seen.update(tenant)
        if not lost and (stored := shards(tenant, "r1")):
            seen.stored_before_loss = stored
            lose_node(tenant.namespace, "r1-rollout-1")
            lost = True
        phases = {name: seen.statuses[name].phase for name in names if name in seen.statuses}
        if list(phases.values()) == ["Succeeded"] * len(names):
            return
        if "Failed" in phases.values() or time.monotonic() > deadline:
            statuses = [f"{name}: {s.phase}: {s.message}" for name, s in seen.statuses.items()]
            pytest.fail(f"the rounds do not end: {statuses}\n{tenant.kubectl('get', 'pods,events')}")
        time.sleep(1 if lost else 0.2)


def shards(tenant: Tenant, name: str) -> dict[str, datetime | None]:
    """Return when each shard of a round's rollout was stored, by name."""
    assert tenant.bed.minio is not None
    folder = f"{tenant.namespace}/rounds/{name}/rollout/"
    found = tenant.bed.minio.client().list_objects(tenant.namespace, prefix=folder, recursive=True)
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

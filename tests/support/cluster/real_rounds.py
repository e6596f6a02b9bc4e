"""Rounds whose every program runs: what a lab's admin and one of its people do, from nothing to the last round.

The admin installs the operator and sets a tenant up with the charts; the tenant's person installs executors, puts a
base model and games into the tenant's folder of MinIO, applies the rounds and watches. All pods are real processes.
``rstar run`` does the same rounds on a folder meanwhile. The module looks and writes down; the tests judge.
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
from tests.support.cluster.operating import status_of
from tests.support.paths import ROOT

GAME24 = ROOT / "examples/game24"
RSTAR = str(Path(sysconfig.get_path("scripts")) / "rstar")
ROUNDS_APPLIED = 4
PROBLEMS, SHARD = 12, 4
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SECONDS = 2_700
"""More than enough where much else runs: a stage spends most of its time importing torch."""


def tiny_rounds(count: int) -> str:
    """Return ``count`` rounds of the quick example, as small as they can be with every stage at work.

    One search at a time, so that nothing depends on which calls share a batch: the same seed gives the same bytes. A
    PPM guides the third round; the last one is evaluated.
    """
    limits = {"seconds": 60, "memoryMib": 256, "outputBytes": 4096, "fileMib": 1}
    documents = []
    for number in range(1, count + 1):
        body = next(yaml.safe_load_all((GAME24 / "quick.yaml").read_text()))
        body["metadata"]["name"] = f"r{number}"
        spec = body["spec"]
        spec |= {"round": number, "lifecycle": {"backoffSeconds": 1}}
        if number > 1:
            spec["previousRound"] = f"r{number - 1}"
        spec["rollout"] |= {"concurrency": 1, "shardSize": SHARD}
        # On games this small a tree soon holds a win; what it holds besides, to make pairs of, takes more tokens.
        spec["rollout"]["search"] |= {"tokenBudget": 500, "candidates": 8, "rollouts": 50, "execution": limits}
        spec["preferenceModel"] = {"use": "always" if number == 3 else "never"}
        spec["select"] |= {"minVisits": 1, "heldOutFraction": 0.2}
        # A policy that learns more loses no play, and without losses there are no pairs.
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
    """Put games into a folder store, and beside it those that the base model must not see: all but the training games."""
    sizes = [f"--train=3:{PROBLEMS}", "--validation=3:2", "--held-out=3:4"]
    command = [RSTAR, "data", "make", "game24", f"--out={store / 'data'}", *sizes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (store / "data/train.jsonl").read_text().splitlines()
    seen = {tuple(sorted(json.loads(line)["nums"])) for line in lines}
    others = [game for game in combinations_with_replacement(range(1, 11), 3) if game not in seen]
    (store / "others.jsonl").write_text("".join(json.dumps({"nums": game}) + "\n" for game in others))


def start_base_model(store: Path) -> subprocess.Popen[bytes]:
    """Begin to train a base model that has watched the training games alone: it soon wins some plays and loses others."""
    skilled = "import pretrain, typer; pretrain.SKILL = 0.5; typer.run(pretrain.main)"
    plays = [f"--exclude={store / 'others.jsonl'}", "--plays=4000", "--sizes=3"]
    command = [sys.executable, "-c", skilled, f"--out={store / 'models/base'}", *plays]
    environment = ONE_THREAD | {"PYTHONPATH": str(GAME24)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@dataclass(frozen=True)
class Tenant:
    """A tenant's namespace, the admin's with the operator, and one of the tenant's people, whose client ``api`` is."""

    bed: Testbed
    namespace: str
    admin: str
    person: Path
    api: Cluster

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """Run kubectl as the person."""
        return self.bed.kubectl("-n", self.namespace, *words, input=input, kubeconfig=self.person)


def install_operator(bed: Testbed, admin: str) -> None:
    """Do what an admin does once per cluster, with the documented values: two operators, the CRD, the roles."""
    values = ROOT / "charts/rstar/ci/operator-values.yaml"
    # The CRD may be there from an earlier test: it stays when a chart goes.
    options = [f"--values={values}", "--set=metrics.serviceMonitor.enabled=false", "--take-ownership"]
    bed.helm("install", "rstar", str(ROOT / "charts/rstar"), "-n", admin, *options)


def set_up_tenant(bed: Testbed, admin: str, namespace: str) -> Tenant:
    """Do what an admin does once per tenant: a namespace with quota and policies, and a user of its own in MinIO."""
    assert bed.minio is not None
    keys = [f"--from-literal=user={bed.minio.access_key}", f"--from-literal=password={bed.minio.secret_key}"]
    bed.kubectl("create", "secret", "generic", "minio-admin", "-n", admin, *keys)
    values = f"namespace={namespace},access.groups={{{namespace}}},minioUser.enabled=true"
    where = f"storage.endpoint={bed.minio.endpoint},storage.bucket={namespace}"
    bed.helm("install", "tenant", str(ROOT / "charts/rstar-tenant"), "-n", admin, f"--set={values},{where}")
    person = bed.user_kubeconfig(f"somebody-of-{namespace}", (namespace,))
    return Tenant(bed, namespace, admin, person, Cluster.connect(person, user_agent="rstar-tests"))


def install_executors(tenant: Tenant) -> None:
    """Do what the tenant's person does once, with the documented values."""
    chart, values = ROOT / "charts/rstar", ROOT / "charts/rstar/ci/tenant-values.yaml"
    words = ("install", "rstar", str(chart), "-n", tenant.namespace, f"--values={values}")
    tenant.bed.helm(*words, kubeconfig=tenant.person)


def wait_for_installation(tenant: Tenant) -> None:
    """Wait as the notes of the charts say."""
    bed, admin = tenant.bed, tenant.admin
    bed.kubectl("wait", "--for=condition=Complete", "job", "--all", "-n", admin, "--timeout=300s")
    bed.kubectl("rollout", "status", "deployment/rstar-operator", "-n", admin, "--timeout=300s")
    tenant.kubectl("rollout", "status", "deployment/rstar-executor", "--timeout=300s")


def fill_store(tenant: Tenant, folder: Path) -> S3Store:
    """Put the base model and the games of a folder store into the tenant's, with the tenant's keys; return it."""
    store = namespace_store(tenant.api, tenant.namespace, "rstar-storage", {})
    keys = ("models/base", "data/train.jsonl", "data/held-out.jsonl")
    upload([Input(folder / key, key) for key in keys], store, lambda _: None)
    return store


@contextlib.contextmanager
def laptop(store: Path, rounds: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the rounds on this machine meanwhile."""
    command = [RSTAR, "run", str(rounds), f"--store={store}"]
    with output.open("w") as out:
        process = subprocess.Popen(command, env=ONE_THREAD, stdout=out, stderr=out)
        try:
            yield process
        finally:
            # SIGTERM: the driver ends what it has started.
            process.terminate()
            process.wait()


@contextlib.contextmanager
def watching(tenant: Tenant, output: Path) -> Iterator[None]:
    """``kubectl get evolutionrounds --watch``, as the person leaves it open in a terminal."""
    command = [str(tenant.bed.binaries["kubectl"]), "get", "evolutionrounds", "--watch", "-n", tenant.namespace]
    with output.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(tenant.person)}, stdout=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@dataclass
class Diary:
    """What was seen while the rounds ran. ``served``: kinds of models that were there while a stage's attempt ran."""

    statuses: dict[str, RoundStatus] = field(default_factory=dict)
    progress: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    served: dict[str, set[str]] = field(default_factory=dict)
    stored_before_loss: dict[str, datetime | None] = field(default_factory=dict)

    def look(self, tenant: Tenant) -> None:
        """Note what is there now."""
        api = tenant.api
        bodies = {body["metadata"]["name"]: body for body in api.list(ROUNDS, tenant.namespace)}
        found = {name: status for name, body in bodies.items() if (status := status_of(body))}
        for name, status in found.items():
            attempt = next((a for a in status.attempts if a.state == "running"), None)
            if attempt is None:
                continue
            told = self.progress.setdefault((name, attempt.stage, attempt.number), [])
            if status.progress_text and status.progress_text not in told[-1:]:
                told.append(status.progress_text)
            served = self.served.setdefault(attempt.stage, set())
            served |= {
                labels_of(body)[COMPONENT] for body in api.list(DEPLOYMENTS, tenant.namespace, f"{ROUND}={name}")
            }
        self.statuses = found


def labels_of(body: Json) -> dict[str, str]:
    """Return an object's labels."""
    labels: dict[str, str] = body["metadata"]["labels"]
    return labels


def follow(tenant: Tenant, diary: Diary, names: list[str]) -> None:
    """Watch until every round has succeeded; lose a node as soon as one shard of the first round is stored."""
    until = time.monotonic() + SECONDS
    lost = False
    while True:
        diary.look(tenant)
        if not lost and (stored := shards(tenant, "r1")):
            diary.stored_before_loss = stored
            lose_node(tenant.namespace, "r1-rollout-1")
            lost = True
        phases = {name: diary.statuses[name].phase for name in names if name in diary.statuses}
        if list(phases.values()) == ["Succeeded"] * len(names):
            return
        if "Failed" in phases.values() or time.monotonic() > until:
            told = [f"{name}: {s.phase}: {s.message}" for name, s in diary.statuses.items()]
            pytest.fail(f"the rounds do not come to their end: {told}\n{tenant.kubectl('get', 'pods,events')}")
        time.sleep(1 if lost else 0.2)


def shards(tenant: Tenant, name: str) -> dict[str, datetime | None]:
    """Return when each shard of a round's rollout was stored, by name."""
    assert tenant.bed.minio is not None
    folder = f"{tenant.namespace}/rounds/{name}/rollout/"
    found = tenant.bed.minio.client().list_objects(tenant.namespace, prefix=folder, recursive=True)
    return {str(item.object_name): item.last_modified for item in found if str(item.object_name).endswith(".parquet")}


def lose_node(namespace: str, attempt: str) -> None:
    """Kill an attempt and the policy that serves it as a lost node does: at once, without a warning.

    Both, because a policy that goes on knows the prefixes of the problem that was cut off, and rounds otherwise.
    """
    policy = processes("rstar_policy", f"/{namespace}")
    stage = processes("rstar_jobs.rollout", f"configmap:{attempt}", f".{namespace}.svc")
    assert len(policy) == 1
    assert len(stage) == 1
    for process in (*policy, *stage):
        os.kill(process, signal.SIGKILL)


def processes(module: str, *words: str) -> list[int]:
    """Return the processes that run a module with these words in their arguments."""
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

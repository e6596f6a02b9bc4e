"""An API server in memory with the controllers that the operator depends on: thousands of histories in seconds.

Versions, uids, conflicts, preconditions, owners and foreground deletion behave as on the real API server, on which
tests/cluster runs the same operator. A test decides what pods, the training operator and Deployments do.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from rstar_operator.backend import PyTorchJobBackend, TrainingBackend
from rstar_operator.cache import Cache
from rstar_operator.snapshot import format_time

from rstar.cluster.api import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    NAMESPACE_TERMINATING,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    TRAIN_JOBS,
    TRAINING_RUNTIMES,
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    Json,
    Kind,
    NotFoundError,
)
from rstar.cluster.names import EXECUTOR_SERVICE, JOB_NAME, JOBSET_NAME
from rstar.rounds.pair_accuracy import PairAccuracy

START = datetime(2030, 1, 1, tzinfo=UTC)
NAMESPACE = "lab"


class KilledError(Exception):
    """The operator was killed right after a write."""


class SimulatedCluster:
    """The methods of ``rstar.cluster.api.Cluster`` that the operator uses, on dictionaries."""

    def __init__(self, backend: TrainingBackend | None = None) -> None:
        self.backend = backend or PyTorchJobBackend()
        self.now = START
        self.objects: dict[tuple[Kind, str], Json] = {}
        self.versions = count(1)
        self.uids = count(1)
        self.writes = 0
        self.reads = 0
        self.killed_after: int | None = None
        self.refuse: set[Kind] = set()
        self.terminating = False
        self.warnings: list[Json] = []

    # The methods that the operator calls.

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        self.reads += 1
        return copy.deepcopy(self.objects.get((kind, name)))

    def list(self, kind: Kind, namespace: str, selector: str = "", *, fields: str = "") -> list[Json]:
        self.reads += 1
        if fields:
            return copy.deepcopy(self.warnings)
        wanted = dict(part.split("=") for part in selector.split(",")) if selector else {}
        return [
            copy.deepcopy(body)
            for (k, _), body in self.objects.items()
            if k == kind and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]

    def create(self, kind: Kind, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        assert not dry_run, "no child of a round is tried"
        name = body["metadata"]["name"]
        if (kind, name) in self.objects:
            raise AlreadyExistsError(f"{name} already exists", 409, "AlreadyExists")
        if self.terminating:
            raise ClusterError(f"{name} is forbidden: the namespace is being terminated", 403, NAMESPACE_TERMINATING)
        if kind in self.refuse:
            raise ClusterError(f"{name} is forbidden: exceeded quota", 403, "Forbidden")
        self.put(kind, body)
        return self._written(kind, name)

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str, foreground: bool = False) -> None:
        body = self.objects.get((kind, name))
        if body is None:
            return
        if body["metadata"]["uid"] != uid:
            raise ConflictError("the UID in the precondition does not match", 409, "Conflict")
        self.remove(kind, name, foreground=foreground)
        self._count()

    def patch(self, kind: Kind, namespace: str, name: str, body: Json) -> Json:
        there = self.objects.get((kind, name))
        if there is None:
            raise NotFoundError(f"{name} not found", 404, "NotFound")
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != there["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", 409, "Conflict")
        _merge(there, {key: value for key, value in body.items() if key != "metadata"})
        if "finalizers" in body.get("metadata", {}):
            there["metadata"]["finalizers"] = body["metadata"]["finalizers"]
        self.touch(kind, name)
        self._finalized()
        return self._written(kind, name)

    def replace_status(self, kind: Kind, namespace: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        there = self.objects.get((kind, name))
        if there is None:
            raise NotFoundError(f"{name} not found", 404, "NotFound")
        if there["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", 409, "Conflict")
        if there.get("status") != body["status"]:
            there["status"] = copy.deepcopy(body["status"])
            self.touch(kind, name)
        return self._written(kind, name)

    # Changes by the rest of the cluster.

    def put(self, kind: Kind, body: Json) -> Json:
        made = copy.deepcopy(body)
        made["metadata"] |= {
            "namespace": NAMESPACE,
            "uid": f"uid-{next(self.uids)}",
            "creationTimestamp": format_time(self.now),
            "generation": 1,
        }
        self.objects[kind, made["metadata"]["name"]] = made
        self.touch(kind, made["metadata"]["name"])
        return made

    def touch(self, kind: Kind, name: str) -> None:
        body = self.objects.get((kind, name))
        if body is not None:
            body["metadata"]["resourceVersion"] = str(next(self.versions))

    def edit(self, name: str, **spec: Any) -> None:
        """Change a round's spec, as a user does."""
        body = self.objects[ROUNDS, name]
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        self.touch(ROUNDS, name)

    def remove(self, kind: Kind, name: str, *, foreground: bool = False) -> None:
        body = self.objects[kind, name]
        if body["metadata"].get("finalizers") or (foreground and self._dependants(body["metadata"]["uid"])):
            body["metadata"].setdefault("deletionTimestamp", format_time(self.now))
            self.touch(kind, name)
            for other_kind, other in self._dependants(body["metadata"]["uid"]) if foreground else ():
                self.objects[other_kind, other]["metadata"].setdefault("deletionTimestamp", format_time(self.now))
                self.touch(other_kind, other)
            return
        self.vanish(kind, name)

    def vanish(self, kind: Kind, name: str) -> None:
        """Remove an object and all that it owns."""
        body = self.objects.pop((kind, name))
        for other_kind, other in self._dependants(body["metadata"]["uid"]):
            if (other_kind, other) in self.objects:
                self.remove(other_kind, other)

    def settle(self) -> None:
        """Remove all objects that are being deleted: kubelets have ended their pods, and the garbage collector has run.

        The trainer's finalizer keeps a runtime for as long as a job uses it.
        """
        used = {body["spec"]["runtimeRef"]["name"] for (kind, _), body in self.objects.items() if kind == TRAIN_JOBS}
        for (kind, name), body in self.objects.items():
            if kind == TRAINING_RUNTIMES and name not in used and "deletionTimestamp" in body["metadata"]:
                body["metadata"]["finalizers"] = []
        for kind, name in list(self.objects):
            body = self.objects.get((kind, name))
            if body is not None and "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
                self.vanish(kind, name)

    def cache(self) -> Cache:
        """Return the cache that an up-to-date watch has filled."""
        cache = Cache(self.backend.kinds)
        for (kind, _), body in self.objects.items():
            if kind in cache.watched:
                cache.put(kind, copy.deepcopy(body))
        return cache

    def children(self) -> dict[str, list[str]]:
        """Return the names of all objects but rounds, events and pods, by kind."""
        found: dict[str, list[str]] = {}
        for kind, name in sorted(self.objects, key=lambda key: (key[0].plural, key[1])):
            if kind not in {ROUNDS, EVENTS, PODS}:
                found.setdefault(kind.plural, []).append(name)
        return found

    def _dependants(self, uid: str) -> Iterator[tuple[Kind, str]]:
        yield from [
            key
            for key, body in self.objects.items()
            if any(r["uid"] == uid for r in body["metadata"].get("ownerReferences", []))
        ]

    def _finalized(self) -> None:
        for kind, name in list(self.objects):
            body = self.objects.get((kind, name))
            head = body["metadata"] if body else {}
            if kind == ROUNDS and "deletionTimestamp" in head and not head.get("finalizers"):
                self.vanish(kind, name)

    def _written(self, kind: Kind, name: str) -> Json:
        body = copy.deepcopy(self.objects.get((kind, name), {"metadata": {}}))
        self._count()
        return body

    def _count(self) -> None:
        self.writes += 1
        if self.killed_after is not None and self.writes >= self.killed_after:
            self.killed_after = None
            raise KilledError


class Controllers:
    """The training operator or the trainer, kubelets and Deployments of a simulated cluster, one event at a time."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self._succeeded = "Succeeded" if cluster.backend.kind == PYTORCH_JOBS else "Complete"

    def live_jobs(self) -> list[Json]:
        return [
            body
            for (kind, _), body in sorted(self.cluster.objects.items(), key=lambda item: item[0][1])
            if kind == self.cluster.backend.kind
            and not _condition(body, self._succeeded)
            and not _condition(body, "Failed")
            and "deletionTimestamp" not in body["metadata"]
        ]

    def start(self, job: Json) -> None:
        """Let the job's pod run."""
        if _condition(job, "Running"):
            return
        name = job["metadata"]["name"]
        if self.cluster.backend.kind == PYTORCH_JOBS:
            self._set_condition(job, "Running")
        if (PODS, f"{name}-master-0") not in self.cluster.objects:
            kind, label, template = self._template(job)
            owner = {"uid": job["metadata"]["uid"], "kind": kind, "controller": True}
            labels = {**template["metadata"]["labels"], label: name}
            head = {"name": f"{name}-master-0", "labels": labels, "ownerReferences": [owner]}
            running = {"state": {"running": {"startedAt": format_time(self.cluster.now)}}}
            status = {"phase": "Running", "containerStatuses": [running]}
            self.cluster.put(PODS, {"kind": "Pod", "metadata": head, "status": status})

    def _template(self, job: Json) -> tuple[str, str, Json]:
        """Return the kind of the pods' owner, the label with the job's name, and the pods' template."""
        if self.cluster.backend.kind == PYTORCH_JOBS:
            return "PyTorchJob", JOB_NAME, next(iter(job["spec"]["pytorchReplicaSpecs"].values()))["template"]
        runtime = self.cluster.objects[TRAINING_RUNTIMES, job["spec"]["runtimeRef"]["name"]]
        template = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        return "Job", JOBSET_NAME, template

    def finish(self, job: Json, code: int, message: str = "", reason: str = "") -> None:
        """End the job's pod, and the job with it."""
        self.start(job)
        name = job["metadata"]["name"]
        pod = self.cluster.objects[PODS, f"{name}-master-0"]
        ended = {
            "exitCode": code,
            "message": message,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": format_time(self.cluster.now),
            "finishedAt": format_time(self.cluster.now),
        }
        pod["status"] = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]}
        self.cluster.touch(PODS, f"{name}-master-0")
        self._set_condition(job, self._succeeded if code == 0 else "Failed")

    def succeed(self, job: Json) -> None:
        labels = job["metadata"]["labels"]
        stage = labels["rstar.dev/stage"]
        key = f"rounds/{labels['rstar.dev/round']}/{stage}/0/manifest.json"
        metrics = PairAccuracy(0.9, 0.8, 90, 30).metrics() | {"solved": 7, "problems": 10}
        self.finish(job, 0, json.dumps({"manifest": key, "digest": f"{stage:0<64}", "metrics": metrics}))

    def ready(self, name: str = "") -> None:
        """Make Deployments available: a pod has been ready for ``minReadySeconds``."""
        for (kind, deployment), body in self.cluster.objects.items():
            if kind == DEPLOYMENTS and name in deployment and not body.get("status", {}).get("availableReplicas"):
                body["status"] = {"readyReplicas": 1, "availableReplicas": 1}
                self.cluster.touch(kind, deployment)

    def add_executor(self) -> None:
        labels = {"app.kubernetes.io/part-of": "rstar"}
        head = {"name": EXECUTOR_SERVICE, "labels": labels}
        self.cluster.put(DEPLOYMENTS, {"kind": "Deployment", "metadata": head, "spec": {}, "status": {}})

    def complete_cleanup(self) -> None:
        for (kind, name), body in self.cluster.objects.items():
            if kind == JOBS and not body.get("status"):
                body["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
                self.cluster.touch(kind, name)

    def advance(self) -> None:
        """Let every job succeed, make every service available, and finish all deletions."""
        for job in self.live_jobs():
            self.succeed(job)
        self.ready()
        self.complete_cleanup()
        self.cluster.settle()
        self.cluster.now += timedelta(seconds=10)

    def _set_condition(self, job: Json, kind: str) -> None:
        status = job.setdefault("status", {"startTime": format_time(self.cluster.now), "conditions": []})
        for condition in status["conditions"]:
            condition["status"] = "False"
        condition = {"type": kind, "status": "True", "lastTransitionTime": format_time(self.cluster.now)}
        status["conditions"].append(condition)
        self.cluster.touch(self.cluster.backend.kind, job["metadata"]["name"])


def round_body(name: str = "r1", number: int = 1, **spec: Any) -> Json:
    """Return a round as a user applies it."""
    evaluate = {"problems": {"uri": "store:held-out.jsonl"}, "methods": [{"name": "greedy", "method": "greedy"}]}
    plain: Json = {
        "round": number,
        "baseModel": "store:base",
        "problems": {"uri": "store:train.jsonl"},
        "evaluate": evaluate,
        "lifecycle": {"maxAttempts": 3, "backoffSeconds": 7, "deadlineSeconds": 1000, "pendingSeconds": 500},
    }
    if number > 1:
        plain["previousRound"] = f"r{number - 1}"
    body = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound", "metadata": {"name": name}}
    return {**body, "spec": plain | spec}


def _condition(body: Json, kind: str) -> bool:
    conditions = body.get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)

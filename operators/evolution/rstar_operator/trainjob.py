"""TrainJobs of Kubeflow's trainer v2 as the training backend.

Each attempt has a TrainingRuntime of its own with its whole pod template: the fields by which a TrainJob changes a shared
runtime (``podTemplateOverrides``, later ``runtimePatches``) differ between versions of the trainer and do not cover the
template. The runtime's name contains a digest of its spec, so that a job never uses one that was made for another spec.

The bodies are plain: kubeflow-training has no models of these kinds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from rstar.cluster.api import TRAIN_JOBS, TRAINING_RUNTIMES, Json, Kind
from rstar.cluster.names import DIGEST_DIGITS, JOBSET_NAME, TRAINER_CONTAINER
from rstar_operator.children.attempt import AttemptPods
from rstar_operator.children.identity import Owner, metadata, queue_labels
from rstar_operator.deciding.writes import Create
from rstar_operator.snapshot import JobSeen, JobState, parse_time

API_VERSION: Final = "trainer.kubeflow.org/v1alpha1"
FINALIZER: Final = "trainer.kubeflow.org/resource-in-use"
"""The trainer removes it once no job uses the runtime, and adds it a second after a job does. Until then the runtime could be
deleted: the trainer's webhook refuses every change of a job without its runtime, also that which ends its deletion."""

TOO_EARLY: Final = "must be created before the TrainJob is created"
"""The trainer's refusal of a TrainJob whose runtime its cache does not have yet."""

_ANCESTOR: Final = "trainer.kubeflow.org/trainjob-ancestor-step"
_REPLICATED_JOB: Final = "node"
_NAME_LENGTH: Final = 45
"""With the longest suffix of a pod, ``-node-0-1023-abcde``, it is 63 characters: the most that the JobSet controller takes."""

_ENDS: Final[dict[str, JobState]] = {"Complete": "succeeded", "Failed": "failed"}


class TrainJobBackend:
    """trainer.kubeflow.org/v1alpha1 TrainJob, with a TrainingRuntime per attempt. The trainer realises it as a JobSet."""

    kind = TRAIN_JOBS
    kinds: tuple[Kind, ...] = (TRAIN_JOBS, TRAINING_RUNTIMES)

    def creates(self, owner: Owner, pods: AttemptPods) -> tuple[Create, ...]:
        """Return the runtime, then the job that refers to it."""
        spec = _runtime_spec(pods)
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:DIGEST_DIGITS]
        runtime = {**metadata(owner, f"{pods.name}-{digest}", pods.labels), "finalizers": [FINALIZER]}
        queued = queue_labels(owner)
        job: Json = {
            "apiVersion": API_VERSION,
            "kind": "TrainJob",
            "metadata": metadata(owner, job_name(pods.name), pods.labels | queued),
            "spec": {
                "runtimeRef": {
                    "apiGroup": API_VERSION.split("/")[0],
                    "kind": "TrainingRuntime",
                    "name": runtime["name"],
                },
                # Unset means one process per CPU.
                "trainer": {"numNodes": pods.nodes, "numProcPerNode": pods.processes or 1},
                **({"suspend": True} if queued else {}),
            },
        }
        return (
            Create(
                TRAINING_RUNTIMES,
                {"apiVersion": API_VERSION, "kind": "TrainingRuntime", "metadata": runtime, "spec": spec},
            ),
            Create(TRAIN_JOBS, job, too_early=TOO_EARLY),
        )

    def read(self, body: Json, pods: Sequence[Json] = ()) -> JobSeen:
        """Read the end from the conditions, and from the pods whether it runs: a TrainJob has no condition for that."""
        state, since, started, message = _state(body, pods)
        spec = body["spec"]
        # Until a job is complete the trainer makes its JobSet again, also while the job is being deleted.
        suspend = state != "succeeded" and not spec.get("suspend")
        return JobSeen(
            self.kind,
            state,
            since,
            started,
            message,
            deletion_patch={"spec": {"suspend": True}} if suspend else None,
            runtime=spec["runtimeRef"]["name"],
        )

    def pod_selector(self, name: str) -> str:
        """Return the selector by the label that the JobSet controller sets."""
        return f"{JOBSET_NAME}={name}"


def job_name(attempt: str) -> str:
    """Return the name of an attempt's TrainJob: the attempt's own, shortened where the names of pods would be too long."""
    if len(attempt) <= _NAME_LENGTH:
        return attempt
    digest = hashlib.sha256(attempt.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{attempt[: _NAME_LENGTH - DIGEST_DIGITS - 1].rstrip('-')}-{digest}"


def _state(body: Json, pods: Sequence[Json]) -> tuple[JobState, datetime, datetime, str]:
    conditions: dict[str, dict[str, Any]] = {c["type"]: c for c in body.get("status", {}).get("conditions", [])}
    suspended = conditions.get("Suspended")
    # A job from a queue reaches the nodes late: its pendingSeconds count from then on.
    resumed = suspended["lastTransitionTime"] if suspended is not None and suspended["status"] == "False" else None
    waits = parse_time(resumed or body["metadata"]["creationTimestamp"])
    began = min((time for pod in pods if (time := _began(pod)) is not None), default=None)
    for kind, state in _ENDS.items():
        condition = conditions.get(kind)
        if condition is not None and condition["status"] == "True":
            return state, parse_time(condition["lastTransitionTime"]), began or waits, condition.get("message", "")
    if body["spec"].get("suspend"):
        return "queued", waits, waits, ""
    if began is not None:
        return "running", began, began, ""
    return "pending", waits, waits, ""


def _began(pod: Json) -> datetime | None:
    """Return when the pod's container began to run; None while it waits."""
    times = [
        state["startedAt"]
        for container in pod.get("status", {}).get("containerStatuses", [])
        for state in container.get("state", {}).values()
        if state.get("startedAt")
    ]
    return parse_time(min(times)) if times else None


def _runtime_spec(pods: AttemptPods) -> Json:
    """Return a JobSet of one Job with a pod per node. None of its parts starts a pod again.

    Several nodes meet by the trainer's own variables, in torchrun's static rendezvous: it waits until the name of the
    first node resolves, where c10d's gives up at once.
    """
    template = {**pods.template, "spec": {**_pod_spec(pods), "restartPolicy": "Never"}}
    job = {
        "name": _REPLICATED_JOB,
        "replicas": 1,
        "template": {
            "metadata": {"labels": {_ANCESTOR: "trainer"}},
            "spec": {"backoffLimit": 0, "template": template},
        },
    }
    return {
        "mlPolicy": {"numNodes": pods.nodes, "torch": {}},
        "template": {"spec": {"failurePolicy": {"maxRestarts": 0}, "replicatedJobs": [job]}},
    }


def _pod_spec(pods: AttemptPods) -> Json:
    spec = pods.template["spec"]
    container, *others = spec["containers"]
    return {**spec, "containers": [{**container, "name": TRAINER_CONTAINER}, *others]}

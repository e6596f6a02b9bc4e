"""The interface between the operator and the API that runs the pods of an attempt.

``TrainingBackend`` is all that the operator knows of that API: the bodies to create, and how to read one that exists.
``PyTorchJobBackend`` is the training operator's v1 API, ``trainjob`` has its successor's. It is used for pods, networking and elastic rendezvous alone.
Attempts, deadlines, backoff and clean-up are the round's own: the training operator's restart an out-of-memory pod for
ever, never fire, or break on failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from kubeflow.training.models import (
    KubeflowOrgV1ElasticPolicy,
    KubeflowOrgV1PyTorchJob,
    KubeflowOrgV1PyTorchJobSpec,
    KubeflowOrgV1ReplicaSpec,
    KubeflowOrgV1RunPolicy,
)
from kubernetes.client import ApiClient

from rstar.cluster.api import PYTORCH_JOBS, Json, Kind
from rstar.cluster.names import JOB_NAME
from rstar_operator.children.attempt import AttemptPods
from rstar_operator.children.identity import Owner, metadata, queue_labels
from rstar_operator.deciding.writes import Create
from rstar_operator.snapshot import JobSeen, JobState, parse_time

_CLEAN: Final = "Running"


class TrainingBackend(Protocol):
    """Runs the pods of one attempt, once, without restarts.

    ``kind``: that of its jobs. ``kinds``: the same, then that of the objects that a job needs, if any.
    """

    kind: Kind
    kinds: tuple[Kind, ...]

    def creates(self, owner: Owner, pods: AttemptPods) -> tuple[Create, ...]:
        """Return the objects to create, in this order, the job last."""
        ...

    def read(self, body: Json, pods: Sequence[Json] = ()) -> JobSeen:
        """Return the state of a job, given its body and those of its pods from the API server."""
        ...

    def pod_selector(self, name: str) -> str:
        """Return the label selector of a job's pods."""
        ...


class PyTorchJobBackend:
    """kubeflow.org/v1 PyTorchJob."""

    kind = PYTORCH_JOBS
    kinds: tuple[Kind, ...] = (PYTORCH_JOBS,)

    def creates(self, owner: Owner, pods: AttemptPods) -> tuple[Create, ...]:
        """Return the job alone."""
        return (Create(self.kind, self.manifest(owner, pods)),)

    def manifest(self, owner: Owner, pods: AttemptPods) -> Json:
        """Return a Master alone for one node, elastic workers for more: only those get a rendezvous."""
        queued = queue_labels(owner)
        replica = KubeflowOrgV1ReplicaSpec(replicas=pods.nodes, restart_policy="Never", template=pods.template)
        job = KubeflowOrgV1PyTorchJob(
            api_version="kubeflow.org/v1",
            kind="PyTorchJob",
            metadata=metadata(owner, pods.name, pods.labels | queued),
            spec=KubeflowOrgV1PyTorchJobSpec(
                elastic_policy=_elastic(owner, pods) if pods.nodes > 1 else None,
                # Unset means all CPUs of the node.
                nproc_per_node=str(pods.processes or 1) if pods.nodes == 1 else None,
                pytorch_replica_specs={"Master" if pods.nodes == 1 else "Worker": replica},
                run_policy=KubeflowOrgV1RunPolicy(
                    # Elastic workers succeed as soon as one of them does: the others must still write their messages.
                    clean_pod_policy=_CLEAN if pods.nodes == 1 else "None",
                    suspend=True if queued else None,
                ),
            ),
        )
        body: Json = ApiClient.sanitize_for_serialization(_SERIALISER, job)
        return body

    def read(self, body: Json, pods: Sequence[Json] = ()) -> JobSeen:
        """Look the conditions up by type: their order means nothing. They say all that the pods could."""
        state, since, started, message = self._state(body)
        return JobSeen(self.kind, state, since, started, message, _stop_patch(body))

    def _state(self, body: Json) -> tuple[JobState, datetime, datetime, str]:
        status: dict[str, Any] = body.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
        created = parse_time(body["metadata"]["creationTimestamp"])
        for kind, state in _ENDS.items():
            if kind in conditions:
                condition = conditions[kind]
                started = parse_time(status["startTime"]) if "startTime" in status else created
                return state, _since(condition, created), started, condition.get("message", "")
        if body["spec"].get("runPolicy", {}).get("suspend"):
            return "queued", created, created, ""
        if "Running" in conditions:
            since = _since(conditions["Running"], created)
            return "running", since, since, ""
        # A job from a queue reaches the nodes late: its pendingSeconds count from then on.
        waits = parse_time(status["startTime"]) if "startTime" in status else created
        return "pending", waits, waits, ""

    def pod_selector(self, name: str) -> str:
        """Return the selector by the label that the training operator sets."""
        return f"{JOB_NAME}={name}"


_ENDS: Final[dict[str, JobState]] = {"Succeeded": "succeeded", "Failed": "failed"}


class _Serialiser:
    """The part of ``ApiClient`` that turns models into plain data, without a connection."""

    NATIVE_TYPES_MAPPING = ApiClient.NATIVE_TYPES_MAPPING
    PRIMITIVE_TYPES = ApiClient.PRIMITIVE_TYPES

    def sanitize_for_serialization(self, value: Any) -> Any:
        return ApiClient.sanitize_for_serialization(self, value)


_SERIALISER: Final = _Serialiser()


def _elastic(owner: Owner, pods: AttemptPods) -> KubeflowOrgV1ElasticPolicy:
    return KubeflowOrgV1ElasticPolicy(
        min_replicas=pods.nodes,
        max_replicas=pods.nodes,
        n_proc_per_node=pods.processes,
        rdzv_backend="c10d",
        rdzv_id=f"{owner.uid}-{pods.name}",
        # The round repeats a failed attempt itself, from its last checkpoint and under a new name.
        max_restarts=0,
    )


def _stop_patch(body: Json) -> Json | None:
    """Return the patch with which the training operator ends running pods and keeps those that have ended."""
    if body["spec"].get("runPolicy", {}).get("cleanPodPolicy") == _CLEAN:
        return None
    return {"spec": {"runPolicy": {"cleanPodPolicy": _CLEAN}}}


def _since(condition: dict[str, Any], otherwise: datetime) -> datetime:
    text = condition.get("lastTransitionTime")
    return parse_time(text) if text else otherwise

"""The seam between the operator and whatever runs the pods of an attempt.

``TrainingBackend`` is all that the rest of the operator knows of it: a body to create, and the state of one that
exists. ``PyTorchJobBackend`` is the training operator's v1 API. It is used for pods, networking and elastic
rendezvous alone: attempts, deadlines, backoff and clean-up are the round's own, because there they restart an
out-of-memory pod for ever, never fire, or break on failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

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
from rstar_operator.children.identity import Owner, metadata
from rstar_operator.snapshot import parse_time

_CLEAN: Final = "Running"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"

JobState = Literal["queued", "pending", "running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class JobSeen:
    """What a job says of itself. ``since``: when it came into this state; ``started``: when it began to run or wait."""

    state: JobState
    since: datetime
    started: datetime
    message: str = ""


class TrainingBackend(Protocol):
    """Runs the pods of one attempt, once, without restarts."""

    kind: Kind

    def manifest(self, owner: Owner, pods: AttemptPods) -> Json:
        """Return the body to create."""
        ...

    def read(self, body: Json) -> JobSeen:
        """Return the state of a body that the API server gave."""
        ...

    def pod_selector(self, name: str) -> str:
        """Return the label selector of a job's pods."""
        ...

    def release(self, body: Json) -> Json | None:
        """Return the patch that ends what still runs of a job that is over, or None when nothing need be done."""
        ...


class PyTorchJobBackend:
    """kubeflow.org/v1 PyTorchJob."""

    kind = PYTORCH_JOBS

    def manifest(self, owner: Owner, pods: AttemptPods) -> Json:
        """One node: a Master alone. More: elastic workers, as only those get a rendezvous."""
        queue = owner.round.spec.cluster.queue
        labels = pods.labels | ({QUEUE_LABEL: queue} if queue else {})
        replica = KubeflowOrgV1ReplicaSpec(replicas=pods.nodes, restart_policy="Never", template=pods.template)
        job = KubeflowOrgV1PyTorchJob(
            api_version="kubeflow.org/v1",
            kind="PyTorchJob",
            metadata=metadata(owner, pods.name, labels),
            spec=KubeflowOrgV1PyTorchJobSpec(
                elastic_policy=_elastic(owner, pods) if pods.nodes > 1 else None,
                # Unset it means all CPUs of the node.
                nproc_per_node=str(pods.processes or 1) if pods.nodes == 1 else None,
                pytorch_replica_specs={"Master" if pods.nodes == 1 else "Worker": replica},
                run_policy=KubeflowOrgV1RunPolicy(
                    # Elastic workers succeed as soon as one of them does: the last words of the others must not be lost.
                    clean_pod_policy=_CLEAN if pods.nodes == 1 else "None",
                    suspend=True if queue else None,
                ),
            ),
        )
        body: Json = ApiClient.sanitize_for_serialization(_SERIALISER, job)
        return body

    def read(self, body: Json) -> JobSeen:
        """Look the conditions up by type: their order says nothing."""
        status: dict[str, Any] = body.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
        created = parse_time(body["metadata"]["creationTimestamp"])
        for kind, state in _ENDS.items():
            if kind in conditions:
                condition = conditions[kind]
                started = parse_time(status["startTime"]) if "startTime" in status else created
                return JobSeen(state, _since(condition, created), started, condition.get("message", ""))
        if body["spec"].get("runPolicy", {}).get("suspend"):
            return JobSeen("queued", created, created)
        if "Running" in conditions:
            since = _since(conditions["Running"], created)
            return JobSeen("running", since, since)
        # From a queue it comes late to the nodes: its patience begins then.
        waits = parse_time(status["startTime"]) if "startTime" in status else created
        return JobSeen("pending", waits, waits)

    def pod_selector(self, name: str) -> str:
        """By the label that the training operator sets."""
        return f"{JOB_NAME}={name}"

    def release(self, body: Json) -> Json | None:
        """Have the training operator end the pods, which keeps those that ended by themselves."""
        if body["spec"]["runPolicy"].get("cleanPodPolicy") == _CLEAN:
            return None
        return {"spec": {"runPolicy": {"cleanPodPolicy": _CLEAN}}}


_ENDS: Final[dict[str, JobState]] = {"Succeeded": "succeeded", "Failed": "failed"}


class _Serialiser:
    """The part of ``ApiClient`` that turns models into plain data: it needs no connection."""

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
        # An attempt that fails is the round's to repeat: from its last checkpoint, under a new name.
        max_restarts=0,
    )


def _since(condition: dict[str, Any], otherwise: datetime) -> datetime:
    text = condition.get("lastTransitionTime")
    return parse_time(text) if text else otherwise

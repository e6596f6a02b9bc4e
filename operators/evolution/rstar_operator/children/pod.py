"""The pod template that all children share: restricted, and placed on nodes as the round asks.

Restricted Pod Security holds without exceptions: no root, no capabilities, a read-only root file system, and
``/tmp`` and ``/cache`` to write to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.rounds.cluster_spec import PodResources
from rstar_operator.children import certificate
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration

CACHE: Final = "/cache"

_RESTRICTED_CONTAINER: Final[Json] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The container of a pod. ``storage``: it uses the object store. ``grace``: seconds between SIGTERM and SIGKILL.

    ``processes`` of the container share its cores. ``extra`` is added to its body (ports, probes), ``environment`` to
    its variables. ``certificate``: it serves or calls over gRPC, so it has the certificate where TLS is on. ``shared_memory``: its processes exchange data in ``/dev/shm``, whose default is 64 MiB, whatever the
    model.
    """

    name: str
    image: str
    command: Sequence[str]
    resources: PodResources
    grace: int
    storage: bool
    extra: Json
    processes: int = 1
    environment: Sequence[Json] = ()
    certificate: bool = False
    shared_memory: bool = False


def pod_spec(owner: Owner, configuration: Configuration, container: ContainerSpec) -> dict[str, Any]:
    """Return the pod's spec."""
    cluster = owner.round.spec.cluster
    # Only pods that read the object store fetch anything.
    shared = container.storage and cluster.cache_claim is not None
    tls = container.certificate and bool(configuration.tls_secret)
    body: dict[str, Any] = {
        "name": container.name,
        "image": container.image,
        "imagePullPolicy": configuration.image_pull_policy,
        "command": list(container.command),
        "env": [
            *_environment(max(1, container.resources.cores // container.processes)),
            *(_shared_cache(cluster.cache_size) if shared else []),
            *container.environment,
            *(certificate.variables() if tls else []),
            *configuration.extra_env,
        ],
        "resources": _resources(container.resources),
        "securityContext": _RESTRICTED_CONTAINER,
        # For a program that dies without a termination message, the log tail is the message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "cache", "mountPath": CACHE}],
        **container.extra,
    }
    if container.storage:
        body["envFrom"] = [{"secretRef": {"name": cluster.storage_secret}}]
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": container.grace,
        "securityContext": _security(configuration.run_as_user),
        "containers": [body],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "cache", "persistentVolumeClaim": {"claimName": cluster.cache_claim}}
            if shared
            else {"name": "cache", "emptyDir": {"sizeLimit": cluster.cache_size}},
        ],
    }
    if tls:
        body["volumeMounts"].append(certificate.mount())
        spec["volumes"].append(certificate.volume(configuration.tls_secret))
    body["volumeMounts"] += configuration.extra_volume_mounts
    spec["volumes"] += configuration.extra_volumes
    if container.shared_memory:
        body["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})
        spec["volumes"].append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    optional: dict[str, Any] = {
        "nodeSelector": dict(cluster.node_selector),
        "tolerations": [
            t.model_dump(by_alias=True, exclude_none=True, exclude_unset=False) for t in cluster.tolerations
        ],
        "priorityClassName": cluster.priority_class,
        "runtimeClassName": cluster.runtime_class,
        "schedulerName": cluster.scheduler_name,
        "imagePullSecrets": [{"name": name} for name in configuration.image_pull_secrets],
    }
    return spec | {name: value for name, value in optional.items() if value}


def pod_metadata(configuration: Configuration, own: dict[str, str], annotations: dict[str, str] | None = None) -> Json:
    """Return the metadata of a pod template: the labels ``own`` by which it is found, and the configuration's."""
    head: Json = {"labels": {**configuration.pod_labels, **own}}
    return head if annotations is None else {**head, "annotations": annotations}


def _security(user: int | None) -> Json:
    restricted: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return restricted if user is None else {**restricted, "runAsUser": user, "runAsGroup": user, "fsGroup": user}


def _environment(threads: int) -> list[Json]:
    def field(name: str, path: str) -> Json:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    return [
        field("POD_IP", "status.podIP"),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        # Unset means all cores of the node, more than the pod may use. The number of threads also changes rounding.
        {"name": "OMP_NUM_THREADS", "value": str(threads)},
        # Threads that spin while they wait take shared cores from each other.
        {"name": "OMP_WAIT_POLICY", "value": "passive"},
    ]


def _shared_cache(size: str) -> list[Json]:
    """Return the settings of a cache that outlives the pod: its bound, and a place in it for the hub's own cache."""
    return [{"name": "RSTAR_CACHE_SIZE", "value": size}, {"name": "HF_HOME", "value": f"{CACHE}/huggingface"}]


def _resources(wanted: PodResources) -> Json:
    amounts = {"memory": wanted.memory}
    if wanted.gpus:
        amounts[wanted.gpu_resource] = str(wanted.gpus)
    most = {"cpu": wanted.most_cpu} if wanted.most_cpu else {}
    return {"requests": {"cpu": wanted.cpu, **amounts}, "limits": {**most, **amounts}}

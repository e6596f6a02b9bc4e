"""The pod template that all children share: restricted, placed as the round asks, with what it may know.

Restricted Pod Security holds without exceptions: no root, no capabilities, a read-only root file system with
``/tmp`` and ``/cache`` to write to. The module refuses to know what the container runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.rounds.cluster_spec import PodResources
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration

USER: Final = 10_001
CACHE: Final = "/cache"

_RESTRICTED_POD: Final[Json] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_RESTRICTED_CONTAINER: Final[Json] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class Program:
    """What a pod runs. ``storage``: it reads the object store; ``grace``: seconds it has after SIGTERM.

    ``processes`` of the container share its cores.
    """

    container: str
    image: str
    command: Sequence[str]
    resources: PodResources
    grace: int
    storage: bool
    extra: Json
    processes: int = 1


def pod_spec(owner: Owner, configuration: Configuration, program: Program) -> dict[str, Any]:
    """Return the pod's spec; ``program.extra`` adds to the container (ports, probes)."""
    cluster = owner.round.spec.cluster
    container: dict[str, Any] = {
        "name": program.container,
        "image": program.image,
        "imagePullPolicy": configuration.image_pull_policy,
        "command": list(program.command),
        "env": _environment(max(1, program.resources.cores // program.processes)),
        "resources": _resources(program.resources),
        "securityContext": _RESTRICTED_CONTAINER,
        # A program that dies before it can say why leaves its last lines as the reason.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "cache", "mountPath": CACHE}],
        **program.extra,
    }
    if program.storage:
        container["envFrom"] = [{"secretRef": {"name": cluster.storage_secret}}]
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": program.grace,
        "securityContext": _RESTRICTED_POD,
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "cache", "emptyDir": {"sizeLimit": cluster.cache_size}},
        ],
    }
    optional: dict[str, Any] = {
        "nodeSelector": dict(cluster.node_selector),
        "tolerations": [
            t.model_dump(by_alias=True, exclude_none=True, exclude_unset=False) for t in cluster.tolerations
        ],
        "priorityClassName": cluster.priority_class,
        "runtimeClassName": cluster.runtime_class,
        "imagePullSecrets": [{"name": name} for name in configuration.image_pull_secrets],
    }
    return spec | {name: value for name, value in optional.items() if value}


def _environment(threads: int) -> list[Json]:
    def field(name: str, path: str) -> Json:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    return [
        field("POD_IP", "status.podIP"),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        # Unset it is all cores of the node, of which the pod may use a few; and other threads are another rounding.
        {"name": "OMP_NUM_THREADS", "value": str(threads)},
        # Threads that spin while they wait take the cores from each other where cores are shared.
        {"name": "OMP_WAIT_POLICY", "value": "passive"},
    ]


def _resources(wanted: PodResources) -> Json:
    amounts = {"cpu": wanted.cpu, "memory": wanted.memory}
    if wanted.gpus:
        amounts[wanted.gpu_resource] = str(wanted.gpus)
    return {"requests": amounts, "limits": dict(amounts)}

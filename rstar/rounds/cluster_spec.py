"""The part of a round's spec for clusters: storage, queue, placement, and the resources of each pod.

A laptop ignores it, and no digest contains it: a round may move to other machines between two attempts. Not covered:
whether the named objects, such as a priority class, exist.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from rstar.config import Settings

_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_NAME = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"


def _text(value: Any) -> Any:
    """Return the text of a quantity: YAML reads ``cpu: 2`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_INT_OR_STRING: Final[dict[str, JsonValue]] = {"x-kubernetes-int-or-string": True}
Cpu = Annotated[
    str,
    Field(max_length=20, pattern=r"^([1-9][0-9]*(m|\.[0-9]{1,3})?|0\.[0-9]{1,3})$", json_schema_extra=_INT_OR_STRING),
    BeforeValidator(_text),
]
"""Cores: ``2``, ``0.5`` or ``500m``."""
CpuLimit = Annotated[
    str,
    Field(
        max_length=20,
        pattern=r"^(none|[1-9][0-9]*(m|\.[0-9]{1,3})?|0\.[0-9]{1,3})$",
        json_schema_extra=_INT_OR_STRING,
    ),
    BeforeValidator(_text),
]
"""Cores, or ``none``."""
Bytes = Annotated[
    str,
    Field(max_length=20, pattern=r"^[1-9][0-9]*(\.[0-9]{1,3})?([KMGTP]i|[kMGTP])?$", json_schema_extra=_INT_OR_STRING),
    BeforeValidator(_text),
]
"""Memory or disk: ``2Gi``, ``512Mi``. Kubernetes' ``m`` (thousandths of a byte) is always a mistake and refused."""
LabelKey = Annotated[str, Field(max_length=317, pattern=rf"^({_DNS_NAME}/)?{_LABEL}$")]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_LABEL})?$")]
QueueName = Annotated[str, Field(max_length=63, pattern=rf"^{_LABEL}$")]
ObjectName = Annotated[str, Field(max_length=253, pattern=rf"^{_DNS_NAME}$")]


def _cores(quantity: str) -> float:
    amount, milli, _ = quantity.partition("m")
    return float(amount) / (1_000 if milli else 1)


class Toleration(Settings):
    """A taint of nodes that the round's pods accept."""

    key: LabelKey | None = Field(default=None, description="Key of the taint; unset, with operator Exists: any.")
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="Equal: key and value match; Exists: the key matches."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint; unset with operator Exists.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; unset: any."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=31_536_000, description="How long a NoExecute taint is accepted; unset: for ever."
    )

    @model_validator(mode="after")
    def _as_kubernetes(self) -> Toleration:
        if self.key is None and self.operator != "Exists":
            raise ValueError("a toleration without key needs operator: Exists")
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with operator Exists has no value: remove value")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


class PodResources(Settings):
    """Requests and limits of one pod, which are equal; the limit of the CPU may be another one."""

    cpu: Cpu = Field(default="1", description="Cores, such as 2 or 500m.")
    cpu_limit: CpuLimit | None = Field(
        default=None,
        description="Most cores, at least cpu; none: all that the node has free. The number of threads follows a number here, otherwise cpu. Unset: cpu.",
    )
    memory: Bytes = Field(default="2Gi", description="Memory, such as 16Gi.")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs; 0: none.")
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        max_length=317,
        pattern=rf"^{_DNS_NAME}/{_LABEL}$",
        description="Resource name of the GPUs on the nodes.",
    )

    @model_validator(mode="after")
    def _limit_holds_request(self) -> PodResources:
        if self.cpu_limit not in {None, "none"} and _cores(self.most_cpu or self.cpu) < _cores(self.cpu):
            raise ValueError(f"cpuLimit ({self.cpu_limit}) must be at least cpu ({self.cpu}), or none")
        return self

    @property
    def most_cpu(self) -> str | None:
        """The limit of the CPU, None without one."""
        return None if self.cpu_limit == "none" else self.cpu_limit or self.cpu

    @property
    def cores(self) -> int:
        """The number of useful threads: the limit in whole cores, rounded up, or ``cpu`` where there is no limit.

        Without a limit more cores are a matter of luck, and threads that share a core wait for each other.
        """
        return math.ceil(_cores(self.most_cpu or self.cpu))


class ResourcesSpec(Settings):
    """Resources of the pods, by service and by stage."""

    policy: PodResources = Field(default_factory=PodResources, description="One policy server.")
    ppm: PodResources = Field(default_factory=PodResources, description="One PPM server.")
    search: PodResources = Field(default_factory=PodResources, description="One search coordinator.")
    rollout: PodResources = Field(default_factory=PodResources, description="The program of the rollout stage.")
    select: PodResources = Field(default_factory=PodResources, description="The program of the select stage.")
    train_policy: PodResources = Field(
        default_factory=PodResources, description="One node of SFT; all processes of the node share it."
    )
    train_ppm: PodResources = Field(
        default_factory=PodResources, description="One node of PPM training; all processes of the node share it."
    )
    evaluate: PodResources = Field(default_factory=PodResources, description="The program of the evaluate stage.")


class ClusterSpec(Settings):
    """How the round runs on a cluster; a laptop ignores it."""

    storage_secret: ObjectName = Field(
        default="rstar-storage", description="Secret of the namespace that names the object store and its keys."
    )
    queue: QueueName | None = Field(
        default=None,
        description="Admission queue: stages and model servers have the label kueue.x-k8s.io/queue-name, and stages are created suspended; unset: none.",
    )
    priority_class: ObjectName | None = Field(
        default=None, description="PriorityClass of the round's pods; unset: the cluster's default."
    )
    runtime_class: ObjectName | None = Field(
        default=None, description="RuntimeClass of the round's pods, such as nvidia; unset: the cluster's default."
    )
    scheduler_name: ObjectName | None = Field(
        default=None, description="Scheduler of the round's pods, such as volcano; unset: the cluster's default."
    )
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="Labels that a node must have to run the round's pods."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=32, description="Taints of nodes that the round's pods accept."
    )
    deletion_policy: Literal["Keep", "DeleteArtifacts"] = Field(
        default="Keep", description="What happens to the round's files in the object store when the round is deleted."
    )
    cache_size: Bytes = Field(
        default="20Gi",
        description="Disk of each pod for models and data fetched from the object store; with cacheClaim: how much of the volume they may take.",
    )
    cache_claim: ObjectName | None = Field(
        default=None,
        description="PersistentVolumeClaim of the namespace in which pods share fetched models and data; unset: each pod has its own disk.",
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="CPU, memory and GPUs of the pods.")

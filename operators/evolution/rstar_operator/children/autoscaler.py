"""The autoscaler of a service of a round: by CPU, or by the tokens that wait in its servers.

The round says between how many replicas and for which load, the operator's configuration by which object: an
installation has KEDA, an adapter for Prometheus, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.cluster.api import AUTOSCALERS, SCALED_OBJECTS, Json, Kind
from rstar.cluster.names import SERVICE_REF, encode_service, labels, service_name
from rstar.rounds.observed import ServiceRef
from rstar.rounds.services_spec import Autoscaling, ModelAutoscaling
from rstar_operator.children.deployment import service_size
from rstar_operator.children.identity import Owner, metadata
from rstar_operator.configuration import Configuration

BEHAVIOUR: Final[Json] = {
    "scaleUp": {
        # A burst shorter than this is over before a model is loaded.
        "stabilizationWindowSeconds": 30,
        "selectPolicy": "Max",
        # New servers take nothing off the queue while they load: without a bound the most replicas would be reached first.
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 60},
            {"type": "Pods", "value": 2, "periodSeconds": 60},
        ],
    },
    "scaleDown": {
        # Between two shards no call waits, and a model that is unloaded has to be loaded again.
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 25, "periodSeconds": 60},
            {"type": "Pods", "value": 1, "periodSeconds": 60},
        ],
    },
}
_POLLING_SECONDS: Final = 15
_THOUSAND: Final = 1_000


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """An object of ``kind`` that sets the replicas of a Deployment of the same name."""

    kind: Kind
    body: Json


def autoscaler(owner: Owner, configuration: Configuration, ref: ServiceRef) -> Autoscaler | None:
    """Return the autoscaler of the Deployment of ``ref``, or None when its size is fixed."""
    scaling = service_size(owner, ref).autoscaling
    if scaling is None:
        return None
    name = service_name(owner.name, ref)
    head = metadata(owner, name, labels(owner.name, ref.kind), {SERVICE_REF: encode_service(ref)})
    tokens = queued_tokens(scaling)
    metric = f"rstar_{ref.kind}_queued_tokens"
    if tokens is None:
        target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
        return _horizontal(head, scaling, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    average = {"type": "AverageValue", "averageValue": _quantity(tokens)}
    match configuration.autoscaling.kind:
        case "none":
            return None
        case "keda":
            address = configuration.autoscaling.server_address
            pods = f'{{namespace="{owner.namespace}",pod=~"{_pod_pattern(name)}"}}'
            return _scaled_object(head, scaling, address, f"sum({metric}{pods})", tokens)
        case "pods":
            by_pods = {"metric": {"name": metric}, "target": average}
            return _horizontal(head, scaling, {"type": "Pods", "pods": by_pods}, BEHAVIOUR)
        case "external":
            # The ServiceMonitor labels every series with the Service, which has the name of the Deployment.
            series = {"name": metric, "selector": {"matchLabels": {"service": name}}}
            by_series = {"metric": series, "target": average}
            return _horizontal(head, scaling, {"type": "External", "external": by_series}, BEHAVIOUR)


def _pod_pattern(name: str) -> str:
    """Return the pattern of the pods' names: the Deployment's, a hash and a suffix, which are one word in long names."""
    return f"{name}-[a-z0-9]+(-[a-z0-9]+)?"


def queued_tokens(scaling: Autoscaling) -> int | None:
    """Return the target of queued tokens per replica, None where the CPU counts."""
    return scaling.queued_tokens_per_replica if isinstance(scaling, ModelAutoscaling) else None


def _horizontal(head: Json, scaling: Autoscaling, metric: Json, behaviour: Json | None = None) -> Autoscaler:
    spec: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": head["name"]},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [metric],
    }
    if behaviour is not None:
        spec["behavior"] = behaviour
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": head, "spec": spec}
    return Autoscaler(AUTOSCALERS, body)


def _scaled_object(head: Json, scaling: Autoscaling, address: str, query: str, threshold: int) -> Autoscaler:
    trigger = {
        "type": "prometheus",
        # The query returns the tokens of all pods, and the target is that of one. Value would compare the sum itself.
        "metricType": "AverageValue",
        "metadata": {"serverAddress": address, "query": query, "threshold": str(threshold)},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": head["name"]},
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": _POLLING_SECONDS,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOUR}},
        "triggers": [trigger],
    }
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": head, "spec": spec}
    return Autoscaler(SCALED_OBJECTS, body)


def _quantity(number: int) -> str:
    """Return a number as the API server writes it: ``20k`` for 20,000. Another form would look like a change for ever."""
    for suffix in ("", "k", "M"):
        if number % _THOUSAND:
            return f"{number}{suffix}"
        number //= _THOUSAND
    return f"{number}G"

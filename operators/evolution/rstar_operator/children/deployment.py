"""A service of one round: a Deployment keyed by what it serves, its headless Service, and a scaler if asked for.

Another checkpoint is another name, so that no caller ever meets the model of another stage under the address it
knows. The module refuses to make executors: they belong to the installation, not to a round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rstar.cluster.api import Json
from rstar.cluster.names import (
    METRICS_PORT,
    SERVICE_REF,
    encode_service,
    labels,
    service_name,
    service_target,
)
from rstar.rounds.observed import ServiceKind, ServiceRef
from rstar.rounds.programs import SERVICE_PROGRAMS, ServicePlace, service_arguments
from rstar.rounds.spec import ServiceSpec
from rstar_operator.children.identity import Owner, metadata
from rstar_operator.children.pod import CACHE, Program, pod_spec
from rstar_operator.configuration import Configuration

NAME_LABEL: Final = "app.kubernetes.io/instance"
"""Tells the pods of one service of a round from those of another."""

GRACE_SECONDS: Final = 60
"""Longer than the 30 s in which a service drains."""

_STARTUP_PERIOD: Final = 5
_STARTUP_FAILURES: Final = 720
"""A model of many gigabytes may take an hour to come; the round's own deadline ends a hopeless one."""


def deployment(owner: Owner, configuration: Configuration, ref: ServiceRef) -> Json:
    """Return the Deployment of ``ref``. ``replicas`` are left to the scaler where there is one."""
    size = service_size(owner, ref)
    name = service_name(owner.name, ref)
    own = labels(owner.name, ref.kind) | {NAME_LABEL: name}
    program = Program(
        container=ref.kind,
        image=getattr(configuration.images, ref.kind),
        command=_command(owner, configuration, ref, size),
        resources=getattr(owner.round.spec.cluster.resources, ref.kind),
        grace=GRACE_SECONDS,
        storage=ref.model is not None,
        extra=_ports_and_probes(ref),
    )
    spec: Json = {
        "selector": {"matchLabels": {NAME_LABEL: name}},
        "template": {"metadata": {"labels": own}, "spec": pod_spec(owner, configuration, program)},
        # Two models at once may not fit where one does.
        "strategy": {"type": "Recreate"},
        "progressDeadlineSeconds": _STARTUP_PERIOD * _STARTUP_FAILURES,
    }
    if size.autoscaling is None:
        spec["replicas"] = size.size
    head = metadata(owner, name, own, {SERVICE_REF: encode_service(ref)})
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": spec}


def headless_service(owner: Owner, ref: ServiceRef) -> Json:
    """Return the headless Service: its name resolves to every pod, and clients choose among them."""
    name = service_name(owner.name, ref)
    own = labels(owner.name, ref.kind) | {NAME_LABEL: name}
    ports = [
        {"name": "grpc", "port": SERVICE_PROGRAMS[ref.kind].port, "appProtocol": "grpc"},
        {"name": "metrics", "port": METRICS_PORT},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, name, own, {SERVICE_REF: encode_service(ref)}),
        "spec": {"clusterIP": "None", "selector": {NAME_LABEL: name}, "ports": ports},
    }


def autoscaler(owner: Owner, ref: ServiceRef) -> Json | None:
    """Return the scaler of the Deployment, or None when its size is fixed."""
    scaling = service_size(owner, ref).autoscaling
    if scaling is None:
        return None
    name = service_name(owner.name, ref)
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, name, labels(owner.name, ref.kind), {SERVICE_REF: encode_service(ref)}),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def service_size(owner: Owner, ref: ServiceRef) -> ServiceSpec:
    """Return what the round says of the size of this kind of service."""
    size: ServiceSpec = getattr(owner.round.spec.services, ref.kind)
    return size


def _command(owner: Owner, configuration: Configuration, ref: ServiceRef, size: ServiceSpec) -> list[str]:
    place = ServicePlace(
        host="$(POD_IP)",
        port=SERVICE_PROGRAMS[ref.kind].port,
        store="$(RSTAR_STORE)",
        cache=CACHE,
        metrics_port=METRICS_PORT,
        # Rounds that share executors take turns on them.
        tenant=f"{owner.namespace}/{owner.name}",
    )
    upstream = [(used.kind, upstream_target(owner, configuration, used)) for used in ref.upstream]
    # A round's services are planned without their sizes, which may change while the round runs.
    return ["python", *service_arguments(replace(ref, slots=size.slots), place, upstream)]


def upstream_target(owner: Owner, configuration: Configuration, ref: ServiceRef) -> str:
    """Return where others in the namespace reach ``ref``."""
    if ref.kind is ServiceKind.EXECUTOR:
        return configuration.executor_target(owner.namespace)
    return service_target(service_name(owner.name, ref), owner.namespace, ref.kind)


def _ports_and_probes(ref: ServiceRef) -> Json:
    probe = {"grpc": {"port": SERVICE_PROGRAMS[ref.kind].port}}
    return {
        "ports": [
            {"name": "grpc", "containerPort": SERVICE_PROGRAMS[ref.kind].port},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "startupProbe": {**probe, "periodSeconds": _STARTUP_PERIOD, "failureThreshold": _STARTUP_FAILURES},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 20, "failureThreshold": 6},
    }

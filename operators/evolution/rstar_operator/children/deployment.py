"""A service of one round: a Deployment and its headless Service.

Their name contains a digest of the model and settings. Another checkpoint has another name, so that no client reaches
the model of another stage under a known address. Executors belong to the installation and are not created here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rstar.cluster.api import Json
from rstar.cluster.names import (
    HEALTH_PORT,
    METRICS_PORT,
    SERVICE_REF,
    encode_service,
    labels,
    service_name,
    service_target,
)
from rstar.rounds.cluster_spec import PodResources
from rstar.rounds.observed import ServiceKind, ServiceRef
from rstar.rounds.programs import SERVICE_PROGRAMS, ServicePlace, reads_store, service_arguments
from rstar.rounds.services_spec import ServiceSpec
from rstar_operator.children.identity import Owner, metadata, queue_labels
from rstar_operator.children.pod import CACHE, ContainerSpec, pod_metadata, pod_spec
from rstar_operator.configuration import Configuration

NAME_LABEL: Final = "app.kubernetes.io/instance"
"""Distinguishes the pods of a round's services."""

GRACE_SECONDS: Final = 60
"""Longer than the 30 s in which a service drains."""

MIN_READY_SECONDS: Final = 3
"""A pod must stay ready this long to count as available. Otherwise a pod that crashes soon after every start counts in
between, and a stage starts on it. A kubelet needs a second to notice the end of a container, and the API's times are cut
to seconds, so that two of the three may be left."""

KEY_VARIABLE: Final = "RSTAR_ENDPOINT_KEY"
"""The variable with an endpoint's key in the pods of a policy."""

_STARTUP_PERIOD: Final = 5
_STARTUP_FAILURES: Final = 720
"""A model of many gigabytes may take an hour to load. A start that takes too long is ended by the round's deadline."""


def deployment(owner: Owner, configuration: Configuration, ref: ServiceRef) -> Json:
    """Return the Deployment of ``ref``, with the replicas to start with: an autoscaler sets them from then on."""
    size = service_size(owner, ref)
    name = service_name(owner.name, ref)
    own = labels(owner.name, ref.kind) | {NAME_LABEL: name}
    container = ContainerSpec(
        name=ref.kind,
        image=configuration.images.of_service(ref),
        command=_command(owner, configuration, ref, size),
        resources=_resources(owner, ref),
        grace=GRACE_SECONDS,
        storage=reads_store(ref),
        extra=_ports_and_probes(configuration, ref),
        environment=_key(ref),
        certificate=True,
        shared_memory=ref.serving.tensor_parallel > 1,
    )
    spec: Json = {
        "replicas": size.size,
        "selector": {"matchLabels": {NAME_LABEL: name}},
        "template": {"metadata": pod_metadata(configuration, own), "spec": pod_spec(owner, configuration, container)},
        # Two models at once may not fit in the memory that one needs.
        "strategy": {"type": "Recreate"},
        "minReadySeconds": MIN_READY_SECONDS,
        "progressDeadlineSeconds": _STARTUP_PERIOD * _STARTUP_FAILURES,
    }
    head = metadata(owner, name, own | queue_labels(owner), {SERVICE_REF: encode_service(ref)})
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": spec}


def headless_service(owner: Owner, configuration: Configuration, ref: ServiceRef) -> Json:
    """Return the headless Service: its name resolves to all pods, and clients choose among them."""
    name = service_name(owner.name, ref)
    own = labels(owner.name, ref.kind) | {NAME_LABEL: name}
    protocol = "https" if configuration.tls_secret else "grpc"
    ports = [
        {"name": "grpc", "port": SERVICE_PROGRAMS[ref.kind].port, "appProtocol": protocol},
        {"name": "metrics", "port": METRICS_PORT},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, name, own, {SERVICE_REF: encode_service(ref)}),
        "spec": {"clusterIP": "None", "selector": {NAME_LABEL: name}, "ports": ports},
    }


def service_size(owner: Owner, ref: ServiceRef) -> ServiceSpec:
    """Return the size that the round asks for."""
    size: ServiceSpec = getattr(owner.round.spec.services, ref.kind)
    return size


def _command(owner: Owner, configuration: Configuration, ref: ServiceRef, size: ServiceSpec) -> list[str]:
    place = ServicePlace(
        host="$(POD_IP)",
        port=SERVICE_PROGRAMS[ref.kind].port,
        store="$(RSTAR_STORE)",
        cache=CACHE,
        metrics_port=METRICS_PORT,
        health_port=HEALTH_PORT if configuration.tls_secret else None,
        # Rounds that share executors take turns on them.
        tenant=f"{owner.namespace}/{owner.name}",
        key_variable=KEY_VARIABLE if _key(ref) else None,
    )
    upstream = [(used.kind, upstream_target(owner, configuration, used)) for used in ref.upstream]
    # A round's services are planned without their sizes, which may change while the round runs.
    return ["python", *service_arguments(replace(ref, slots=size.slots), place, upstream)]


def _resources(owner: Owner, ref: ServiceRef) -> PodResources:
    """Return the resources of a service's pods. A client of an endpoint runs no model: it needs those of a coordinator."""
    kind = ServiceKind.SEARCH if ref.endpoint is not None else ref.kind
    resources: PodResources = getattr(owner.round.spec.cluster.resources, kind)
    return resources


def _key(ref: ServiceRef) -> list[Json]:
    """Return the variable with the key of the service's endpoint, from the Secret; [] where it needs none."""
    if ref.endpoint is None or ref.endpoint.key_secret is None:
        return []
    secret = ref.endpoint.key_secret
    return [{"name": KEY_VARIABLE, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}]


def upstream_target(owner: Owner, configuration: Configuration, ref: ServiceRef) -> str:
    """Return where others in the namespace reach ``ref``."""
    if ref.kind is ServiceKind.EXECUTOR:
        return configuration.executor_target(owner.namespace)
    return service_target(service_name(owner.name, ref), owner.namespace, ref.kind)


def _ports_and_probes(configuration: Configuration, ref: ServiceRef) -> Json:
    port = SERVICE_PROGRAMS[ref.kind].port
    # Kubernetes' gRPC probes have no TLS.
    health = [{"name": "health", "containerPort": HEALTH_PORT}] if configuration.tls_secret else []
    probe = {"grpc": {"port": HEALTH_PORT if health else port}}
    return {
        "ports": [
            {"name": "grpc", "containerPort": port},
            {"name": "metrics", "containerPort": METRICS_PORT},
            *health,
        ],
        "startupProbe": {**probe, "periodSeconds": _STARTUP_PERIOD, "failureThreshold": _STARTUP_FAILURES},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 20, "failureThreshold": 6},
    }

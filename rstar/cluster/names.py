"""The names of the platform's objects on a cluster: group, labels, object names, ports.

The operator writes them, the command line reads them, charts and network policies select by them. The name of a child
follows from what it is, so that two operators, or a restarted one, create the same object and never a second one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, Final

from rstar.rounds.observed import EndpointRef, ModelRef, ModelServing, SecretRef, ServiceKind, ServiceRef, Stage
from rstar.rounds.programs import SERVICE_PROGRAMS

GROUP: Final = "rstar.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "evolutionrounds"
EVOLUTIONS_PLURAL: Final = "evolutions"

PART_OF: Final = "app.kubernetes.io/part-of"
COMPONENT: Final = "app.kubernetes.io/component"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "rstar-operator"
ROUND: Final = f"{GROUP}/round"
STAGE: Final = f"{GROUP}/stage"
ATTEMPT: Final = f"{GROUP}/attempt"

SERVICE_REF: Final = f"{GROUP}/service"
"""Annotation of a round's Deployment: its ``ServiceRef`` as JSON."""

JOB_NAME: Final = "training.kubeflow.org/job-name"
"""Label that the training operator puts on the pods of a PyTorchJob."""

JOBSET_NAME: Final = "jobset.sigs.k8s.io/jobset-name"
"""Label that the JobSet controller puts on the pods of a TrainJob, whose JobSet has its name."""

PYTORCH_CONTAINER: Final = "pytorch"
"""The training operator requires this name of a PyTorchJob's container."""

TRAINER_CONTAINER: Final = "node"
"""The trainer requires this name of a TrainJob's container."""

STAGE_CONTAINERS: Final = (PYTORCH_CONTAINER, TRAINER_CONTAINER)
"""The container of a stage's pod has one of these names, by the operator's training backend."""

METRICS_PORT: Final = 9_090
HEALTH_PORT: Final = 9_091
"""Where a service with TLS also serves its health without, for probes."""

EXECUTOR_SERVICE: Final = "rstar-executor"
"""The chart's Deployment and headless Service of executors, in the tenant's namespace."""

PROGRESS_KEY: Final = "progress.json"

DIGEST_DIGITS: Final = 10


def labels(round_name: str, component: str) -> dict[str, str]:
    """Return the labels of every object that the operator creates for a round."""
    return {PART_OF: "rstar", COMPONENT: component, MANAGED_BY: OPERATOR, ROUND: round_name}


def attempt_labels(round_name: str, stage: Stage, attempt: int) -> dict[str, str]:
    """Return the labels of one attempt of a stage."""
    return {**labels(round_name, "stage"), STAGE: stage.value, ATTEMPT: str(attempt)}


def attempt_name(round_name: str, stage: Stage, attempt: int) -> str:
    """Return the name of an attempt's PyTorchJob or TrainJob, and of the ConfigMap with its progress."""
    return f"{round_name}-{stage}-{attempt}"


def cleanup_name(round_name: str) -> str:
    """Return the name of the Job that deletes a round's artefacts."""
    return f"{round_name}-cleanup"


def service_name(round_name: str, ref: ServiceRef) -> str:
    """Return the name of a round's Deployment and Service. Another model, size or upstream gives another name."""
    digest = hashlib.sha256(encode_service(ref).encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{round_name}-{ref.kind}-{digest}"


def service_target(name: str, namespace: str, kind: ServiceKind) -> str:
    """Return the gRPC target of a headless Service, which resolves to every pod."""
    return f"dns:///{name}.{namespace}.svc:{SERVICE_PROGRAMS[kind].port}"


def encode_service(ref: ServiceRef) -> str:
    """Return a service as JSON; equal services give equal text."""
    return json.dumps(asdict(ref), sort_keys=True, separators=(",", ":"))


def decode_service(text: str) -> ServiceRef:
    """Return the service that ``encode_service`` wrote. Raises ``ValueError`` for any other text."""
    try:
        return _service(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{text!r} is not a service: {error}") from None


def _service(data: dict[str, Any]) -> ServiceRef:
    model = data["model"]
    return ServiceRef(
        kind=ServiceKind(data["kind"]),
        model=ModelRef(**model) if model is not None else None,
        prompt=data["prompt"],
        prompt_file=data["prompt_file"],
        replicas=data["replicas"],
        slots=data["slots"],
        serving=ModelServing(**data["serving"]),
        call_seconds=data["call_seconds"],
        upstream=tuple(_service(item) for item in data["upstream"]),
        endpoint=_endpoint(data["endpoint"]),
        convention=data["convention"],
    )


def _endpoint(data: dict[str, Any] | None) -> EndpointRef | None:
    if data is None:
        return None
    secret = data["key_secret"]
    return EndpointRef(**{**data, "key_secret": SecretRef(**secret) if secret is not None else None})

"""The operator's configuration: images, and the addresses of shared services. Read once, at the start.

The chart writes the file. Each unknown key or bad value gives one sentence, before anything is watched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from rstar.cluster.names import EXECUTOR_SERVICE, service_target
from rstar.config import Settings
from rstar.rounds.observed import ServiceKind, ServiceRef
from rstar.rounds.validation_errors import validation_messages
from rstar.rpc.tracing import ENDPOINTS, TracingError, asked


class ConfigurationError(ValueError):
    """The file cannot be used; one sentence per fault, one per line."""


class Images(Settings):
    """The images of the containers that the operator starts."""

    policy: str = Field(min_length=1, description="Policy servers.")
    ppm: str = Field(min_length=1, description="PPM servers.")
    search: str = Field(min_length=1, description="Search coordinators.")
    jobs: str = Field(min_length=1, description="Stage programs.")
    vllm: str = Field(min_length=1, description="Policy and PPM servers with the engine vLLM.")

    def of_service(self, ref: ServiceRef) -> str:
        """Return the image of a round's service."""
        image: str = self.vllm if ref.serving.engine == "vllm" else getattr(self, ref.kind)
        return image


class RoundAutoscaling(Settings):
    """How the installation scales model servers by the tokens that wait in them."""

    kind: Literal["none", "keda", "pods", "external"] = Field(
        default="none",
        description="none; keda: ScaledObjects; pods, external: HorizontalPodAutoscalers on the metrics of an adapter.",
    )
    server_address: str = Field(default="", max_length=1_000, description="URL of Prometheus as KEDA reaches it.")

    @model_validator(mode="after")
    def _address_of_prometheus(self) -> RoundAutoscaling:
        if self.kind == "keda" and not self.server_address:
            raise ValueError(
                "keda needs serverAddress: the URL of Prometheus, such as http://prometheus.monitoring:9090"
            )
        return self


class Configuration(Settings):
    """The operator's settings."""

    images: Images = Field(description="Images by program.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes fetch an image."
    )
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets of the tenants' namespaces.")
    executor: str = Field(
        default="",
        max_length=300,
        description="gRPC target of executors that all tenants share; empty: those of the round's own namespace.",
    )
    tls_secret: str = Field(
        default="",
        max_length=253,
        description="Secret of the tenants' namespaces with tls.crt, tls.key and ca.crt, for mutual TLS; empty: no TLS.",
    )
    stage_service_account: str = Field(
        default="rstar-stage", description="ServiceAccount of stage pods, which report their progress with it."
    )
    autoscaling: RoundAutoscaling = Field(
        default_factory=RoundAutoscaling, description="Scaling of model servers by queued tokens."
    )
    training_backend: Literal["pytorchjob", "trainjob"] = Field(
        default="pytorchjob", description="What runs the pods of stages: the training operator v1, or the trainer v2."
    )
    workers: int = Field(default=8, ge=1, le=64, description="Rounds reconciled at once.")
    run_as_user: int | None = Field(
        default=10_001, ge=1, description="User and group of all pods; null: the platform chooses them."
    )
    pod_labels: dict[str, str] = Field(default={}, description="Further labels of the pods.")
    extra_env: tuple[dict[str, Any], ...] = Field(default=(), description="Further variables of the containers.")
    extra_volumes: tuple[dict[str, Any], ...] = Field(default=(), description="Further volumes of the pods.")
    extra_volume_mounts: tuple[dict[str, Any], ...] = Field(
        default=(), description="Where the containers mount the further volumes."
    )

    @property
    def traces(self) -> bool:
        """Whether the variables of the containers ask for traces."""
        given = {str(each.get("name")): each for each in self.extra_env}
        found = {name: str(each.get("value") or "") for name, each in given.items()}
        # An address may come from a Secret, which is not read here.
        hidden = {name: "hidden" for name in ENDPOINTS if "valueFrom" in given.get(name, {})}
        return asked(found | hidden)

    def executor_target(self, namespace: str) -> str:
        """Return the gRPC target of the executors that coordinators of a namespace use."""
        return self.executor or service_target(EXECUTOR_SERVICE, namespace, ServiceKind.EXECUTOR)


def load_configuration(path: Path) -> Configuration:
    """Read the file. Raises ``ConfigurationError``."""
    try:
        found = Configuration.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        _ = found.traces
        return found
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except TracingError as error:
        raise ConfigurationError(f"{path}: extraEnv: {error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise ConfigurationError("\n".join(f"{path}: {s}" for s in validation_messages(error, Configuration))) from None

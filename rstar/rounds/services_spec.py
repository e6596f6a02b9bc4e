"""The sizes of the services during a round: how many of each, fixed or by load.

No size changes a result, so none is part of a digest. The module refuses to say what a pod of a service
may use (see ``cluster_spec``).
"""

from __future__ import annotations

from pydantic import Field, model_validator

from rstar.config import Settings


class Autoscaling(Settings):
    """Replicas by CPU load (cluster only)."""

    min_replicas: int = Field(default=1, ge=1, le=1_000, description="Fewest pods; the laptop runs this many.")
    max_replicas: int = Field(ge=1, le=1_000, description="Most pods.")
    target_cpu_percent: int = Field(
        default=80, ge=1, le=1_000, description="CPU use, in percent of what the pods ask for, that is aimed at."
    )

    @model_validator(mode="after")
    def _order(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas ({self.min_replicas}) must be at most maxReplicas ({self.max_replicas})")
        return self


class ServiceSpec(Settings):
    """Size of one service during this round."""

    replicas: int | None = Field(
        default=None, ge=1, le=1_000, description="Processes (laptop) or pods (cluster); unset: 1, or minReplicas."
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Replicas by load, instead of replicas; unset: a fixed number."
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=1_024,
        description="Executor: programs run at once per replica; model services: rows per forward pass; unset: the service decides.",
    )

    @model_validator(mode="after")
    def _one_size(self) -> ServiceSpec:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas and autoscaling exclude each other: remove one of them")
        return self

    @property
    def size(self) -> int:
        """Replicas to start with."""
        if self.autoscaling is not None:
            return self.autoscaling.min_replicas
        return self.replicas or 1


class ServicesSpec(Settings):
    """The services the round needs."""

    policy: ServiceSpec = Field(default_factory=ServiceSpec, description="The policy servers.")
    ppm: ServiceSpec = Field(default_factory=ServiceSpec, description="The PPM servers.")
    executor: ServiceSpec = Field(
        default_factory=ServiceSpec,
        description="The code executors; a cluster's are shared and sized at installation, so that this is unused there.",
    )
    search: ServiceSpec = Field(default_factory=ServiceSpec, description="The search coordinators.")

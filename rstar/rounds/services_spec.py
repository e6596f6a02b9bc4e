"""The services of a round in its spec: how many of each, how they scale, and how model servers run the model."""

from __future__ import annotations

from pydantic import Field, model_validator

from rstar.config import Settings
from rstar.models.model_folder import EngineName, Precision
from rstar.rounds.observed import ModelServing


class Autoscaling(Settings):
    """Replicas by CPU load (cluster only)."""

    min_replicas: int = Field(default=1, ge=1, le=1_000, description="Fewest pods; the laptop runs this many.")
    max_replicas: int = Field(ge=1, le=1_000, description="Most pods.")
    target_cpu_percent: int = Field(
        default=80, ge=1, le=1_000, description="Target CPU use, in percent of the pods' request."
    )

    @model_validator(mode="after")
    def _order(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas ({self.min_replicas}) must be at most maxReplicas ({self.max_replicas})")
        return self


class ModelAutoscaling(Autoscaling):
    """Replicas by CPU load or by queued tokens (cluster only)."""

    queued_tokens_per_replica: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Target of tokens that wait per replica, of prompts and of what they may generate; it replaces the CPU load. Needs rounds.autoscaling.kind of the chart; unset: by CPU.",
    )


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
        description="Work at once per replica: batches (executor), rows (policy, PPM) or searches (search); unset: the service decides.",
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


class ModelServiceSpec(ServiceSpec):
    """Size of a model service during this round, and how its servers run the model."""

    autoscaling: ModelAutoscaling | None = Field(
        default=None, description="Replicas by load, instead of replicas; unset: a fixed number."
    )
    engine: EngineName = Field(
        default="transformers",
        description="Library that runs the model: transformers (any machine) or vllm (needs the extra vllm, or its image).",
    )
    dtype: Precision = Field(
        default="auto",
        description="Number format of the served model; auto: the checkpoint's on a GPU, float32 on a CPU.",
    )
    tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="Devices that share the model of one replica (engine vllm only)."
    )
    memory_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of a device's memory for weights and key-value cache (engine vllm only); unset: 0.9.",
    )

    @model_validator(mode="after")
    def _settings_of_vllm(self) -> ModelServiceSpec:
        if self.engine != "vllm" and (self.tensor_parallel > 1 or self.memory_share is not None):
            raise ValueError("tensorParallel and memoryShare need engine: vllm")
        return self

    @property
    def serving(self) -> ModelServing:
        """How each server runs the model."""
        return ModelServing(self.engine, self.dtype, self.tensor_parallel, self.memory_share)


class ServicesSpec(Settings):
    """The services the round needs."""

    policy: ModelServiceSpec = Field(default_factory=ModelServiceSpec, description="The policy servers.")
    ppm: ModelServiceSpec = Field(default_factory=ModelServiceSpec, description="The PPM servers.")
    executor: ServiceSpec = Field(
        default_factory=ServiceSpec,
        description="The code executors; unused on a cluster, where they are shared and sized at installation.",
    )
    search: ServiceSpec = Field(default_factory=ServiceSpec, description="The search coordinators.")

"""The part of a spec that sets the two training stages: SFT of the policy, and training of the PPM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rstar.config import Settings


class TrainingSpec(Settings):
    """One training stage. The defaults are the paper's SFT settings."""

    epochs: float = Field(
        default=2.0, gt=0, le=1_000, description="Passes over the data; unused when maxTrainTokens is set."
    )
    max_train_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens to train on: data are repeated or cut to reach it; replaces epochs when set.",
    )
    batch_size: int = Field(
        default=128, ge=1, description="Examples (or pairs) per optimiser step, over all processes."
    )
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Examples per forward pass of one process; unset: batchSize divided by the processes.",
    )
    learning_rate: float = Field(default=7e-6, gt=0, le=1, description="Peak learning rate; decays linearly to 0.")
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps with rising learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="AdamW weight decay.")
    max_length: int = Field(
        default=4_096, ge=8, le=1_048_576, description="Longest example in tokens; longer ones are dropped and counted."
    )
    save_steps: int = Field(
        default=200, ge=1, description="Optimiser steps between checkpoints from which a restart continues."
    )
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="Number format of training.")
    fsdp: bool = Field(default=False, description="Shard parameters, gradients and optimiser state over the processes.")
    nodes: int = Field(default=1, ge=1, le=1_024, description="Nodes that train together.")
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Processes (GPUs) per node.")


class PreferenceTrainingSpec(TrainingSpec):
    """Training of the PPM (equation 4). The defaults are the paper's."""

    epochs: float = Field(default=1.0, gt=0, le=1_000, description="Passes over the pairs.")
    batch_size: int = Field(default=512, ge=1, description="Pairs per optimiser step, over all processes.")
    max_length: int = Field(
        default=2_048,
        ge=8,
        le=1_048_576,
        description="Longest sequence in tokens; longer pairs are dropped and counted.",
    )
    score_scale: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Factor on the difference of the two scores before the sigmoid; tiny models learn faster with 4.",
    )

"""The part of a spec that sets the two training stages: SFT of the policy, and training of the PPM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstar.config import Settings

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
"""The implementation of attention in transformers; auto is its own choice, sdpa where the model has it."""

StoredDtype = Literal["auto", "float32", "bfloat16"]
"""The number format of a stored checkpoint; auto: bfloat16 after training in bfloat16 or on a GPU, else float32."""


MarkerForm = Literal["auto", "tokens", "text"]
"""How a policy whose tokenizer lacks the trajectory markers writes them."""


class LoraSpec(Settings):
    """Training of low-rank additions to the weights (LoRA) instead of the weights. They are merged when stored."""

    rank: int = Field(default=16, ge=1, le=1_024, description="Rank of the addition to each weight matrix.")
    alpha: int = Field(default=32, ge=1, le=10_000, description="The addition is multiplied by alpha divided by rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the input of the addition.")
    target_modules: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(),
        max_length=64,
        description="Layers that get an addition, by the end of their names, such as q_proj; empty: all linear layers but the head.",
    )


class TrainingSpec(Settings):
    """Either training stage. The defaults are the paper's SFT settings."""

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
    stored_dtype: StoredDtype = Field(
        default="auto",
        description="Number format of the stored checkpoint; auto: bfloat16 after training in bfloat16 or on a GPU, else float32.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only each layer's input for the backward pass and compute the rest again: less memory, about a third more time.",
    )
    attention: Attention = Field(
        default="auto",
        description="Implementation of attention; auto: the model's default. flash_attention_2 needs the package flash-attn, a GPU and precision bfloat16.",
    )
    lora: LoraSpec | None = Field(
        default=None,
        description="Train low-rank additions, new tokens and the head only; unset: all weights. Needs a higher learningRate, such as 0.0002.",
    )
    fsdp: bool = Field(default=False, description="Shard parameters, gradients and optimiser state over the processes.")
    nodes: int = Field(default=1, ge=1, le=1_024, description="Nodes that train together.")
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Processes (GPUs) per node.")

    @model_validator(mode="after")
    def _fitting(self) -> TrainingSpec:
        if self.lora is not None and self.fsdp:
            raise ValueError("lora and fsdp exclude each other: LoRA has few states to shard; remove one of them")
        if self.attention == "flash_attention_2" and self.precision != "bfloat16":
            raise ValueError("attention flash_attention_2 needs precision: bfloat16")
        return self


class PolicyTrainingSpec(TrainingSpec):
    """SFT of the policy. The defaults are the paper's."""

    markers: MarkerForm = Field(
        default="auto",
        description="Trajectory markers that the tokenizer lacks: tokens (new special tokens, as in the paper, which need many steps), text (several known tokens each), or auto: tokens if the training is long enough to learn them.",
    )


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

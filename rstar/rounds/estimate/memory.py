"""Memory of one process of each kind, in bytes. Sources and examples: docs/planning.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.models.forward_passes import NEW_TOKENS, TEXT_TOKENS
from rstar.rounds.estimate.model_size import ModelSize

PREFIX_CACHE: Final = 256 << 20
"""Allowed for keys and values of earlier prompts. The engine transformers takes a share of what is free (`--prefix-share`)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process by what they hold. A part that a process does not have is 0.

    ``activations`` are those of one forward pass, and of the backward pass where there is one.
    """

    weights: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    activations: float = 0.0
    keys_and_values: float = 0.0

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.keys_and_values


def serving(
    model: ModelSize, *, number_bytes: int, sequences: float, length: float, devices: int = 1, policy: bool = True
) -> Memory:
    """Return the memory of a model server on one of ``devices`` that share the model.

    Both kinds hold a cache of prefixes and run prompts in batches; a policy holds keys and values of ``sequences`` texts of
    ``length`` tokens besides. ``number_bytes``: of one weight, key or activation.
    """
    running = 2 * model.layers * model.key_width * number_bytes * sequences * length if policy else 0.0
    passed = NEW_TOKENS * (6 * model.width + 3 * model.mlp_width) * number_bytes
    passed += 2 * model.layers * model.key_width * number_bytes * TEXT_TOKENS
    # The PPM has a mask: with two rows, the fewest that the limits hold for, each query has half of the texts' tokens.
    last = 4 * sequences * model.vocabulary if policy else NEW_TOKENS * TEXT_TOKENS // 2 * number_bytes
    return Memory(
        weights=model.parameters * number_bytes / devices,
        activations=(passed + last) / devices,
        keys_and_values=(running + PREFIX_CACHE) / devices,
    )


def training(
    model: ModelSize,
    *,
    sequences: float,
    length: float,
    mixed: bool,
    shards: int = 1,
    logits: bool = True,
    checkpointing: bool = False,
) -> Memory:
    """Return the memory of one training process with AdamW: 16 bytes per parameter, divided by the ``shards`` of FSDP.

    ``mixed``: bfloat16 for the passes, with a float32 copy of everything that the optimiser changes. ``sequences`` of
    ``length`` tokens are in one pass; ``logits``: the loss needs those of all tokens (SFT, not the PPM).
    """
    weights = 4.0 * model.parameters / shards
    if mixed:
        # Autocast keeps the bfloat16 copies of all weights for a pass; FSDP those of two layers at a time.
        copied = model.parameters if shards == 1 else 2 * _layer_parameters(model)
        weights += 2.0 * copied
    return Memory(
        weights=weights,
        gradients=4.0 * model.parameters / shards,
        optimiser=8.0 * model.parameters / shards,
        activations=kept_for_backward(
            model, sequences * length, number_bytes=2 if mixed else 4, logits=logits, checkpointing=checkpointing
        ),
    )


def kept_for_backward(
    model: ModelSize, tokens: float, *, number_bytes: int, logits: bool, checkpointing: bool
) -> float:
    """Return the bytes of activations that the backward pass needs.

    Per token and layer: 8 vectors of the width, 4 of the keys, 4 of the MLP. With checkpointing one vector per layer, and
    the rest of one layer at a time. Logits exist as computed, in float32 and as their gradient.
    """
    layer = (8 * model.width + 4 * model.key_width + 4 * model.mlp_width) * number_bytes
    inner = model.layers * model.width * number_bytes + layer if checkpointing else model.layers * layer
    return tokens * (inner + (model.vocabulary * (number_bytes + 8) if logits else 0))


def _layer_parameters(model: ModelSize) -> float:
    embeddings = model.vocabulary * model.width
    return max(model.parameters - embeddings, 0) / model.layers

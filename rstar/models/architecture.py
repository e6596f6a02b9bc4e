"""Which models can be trained and served, checked when they are loaded: by the policy, the PPM and the training alike.

The services run a model with a plain key-value cache and explicit positions, so a model needs full (or sliding) causal
attention, position ids, and a known context length. Encoders, encoder-decoders, recurrent models and models with
attention biases by distance (ALiBi) are refused.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

_ATTENTION: Final = {"full_attention", "sliding_attention"}
"""Kinds of layers whose state is keys and values of all tokens, or of those in a window."""

INSTEAD: Final = "use a decoder-only model with full attention, such as Qwen2, Llama, Mistral or Phi-3"


def check_architecture(model: Any, place: object) -> None:
    """Raise ``ValueError`` with one sentence when the model loaded from ``place`` cannot be served."""
    if fault := _fault(model):
        raise ValueError(f"{place} cannot be served: {model.config.model_type!r} {fault}; {INSTEAD}")


def context_length(model: Any) -> int:
    """Return the most tokens of one text. Up to its window, sliding attention equals full attention."""
    config = model.config.get_text_config()
    longest, window = int(config.max_position_embeddings), getattr(config, "sliding_window", None)
    # Without kinds of layers, as in Phi-3 and Mistral, all layers have the window.
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ("sliding_attention",))
    return min(longest, int(window)) if slides and window else longest


def _fault(model: Any) -> str:
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        return "is an encoder-decoder model"
    kinds = set(getattr(config, "layer_types", None) or ())
    if getattr(model, "_is_stateful", False) or kinds - _ATTENTION:
        return "keeps a recurrent state or another state than keys and values"
    if any(getattr(layer, "is_causal", None) is False for layer in model.modules()):
        return "is an encoder: its attention sees later tokens"
    parameters = inspect.signature(model.base_model.forward).parameters
    if not {"position_ids", "attention_mask"} <= set(parameters):
        return "takes no position ids"
    if "past_key_values" not in parameters:
        return "has no key-value cache"
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 1:
        return "names no context length (max_position_embeddings)"
    return ""

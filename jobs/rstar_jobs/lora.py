"""LoRA by PEFT: low-rank additions to frozen weights, trained in their place and merged into them at the end.

The PPM's head and the embeddings of the trajectory markers are trained whole: the head is new, and so are the markers of
a model that lacked them. Where input and output embeddings are tied, they stay tied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import set_seed
from transformers.pytorch_utils import Conv1D

from rstar.distribution import extra
from rstar.rounds.training_spec import LoraSpec
from rstar_jobs.errors import BadInputError


def check_lora_installed() -> None:
    """Raise ``BadInputError`` when PEFT is not installed."""
    if find_spec("peft") is None:
        raise BadInputError(f"lora needs the package peft, which is not installed: {extra('jobs')}, or remove lora")


def add_lora(
    model: Any, lora: LoraSpec, seed: int, *, tokens: Sequence[int] = (), head: nn.Module | None = None
) -> Any:
    """Return ``model`` with frozen weights and additions drawn from ``seed``; the trained weights are float32.

    ``tokens``: ids whose rows in the input and the output embeddings are trained; ``head``: a module of the model that is
    trained whole. Raises ``BadInputError`` for target modules that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    names = {module: name for name, module in model.named_modules()}
    set_seed(seed % 2**32)
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=_targets(model, names, lora.target_modules),
            modules_to_save=None if head is None else [names[head]],
            trainable_token_indices=_embeddings(model, names, tokens),
        ),
    )
    # With a name PEFT would look up the base model on the hub at every checkpoint, to compare vocabularies.
    wrapped.peft_config["default"].base_model_name_or_path = None
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return wrapped


def merged(model: Any, dtype: torch.dtype) -> Any:
    """Return the model whose weights contain the additions; a model without additions is returned unchanged.

    All its weights have the format of the frozen ones, or float32 where ``dtype``, in which they are stored, is float32.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    if dtype == torch.float32:
        model.float()
    whole = model.merge_and_unload()
    return whole.to(whole.dtype)


def _targets(model: Any, names: Mapping[nn.Module, str], wanted: Sequence[str]) -> list[str]:
    backbone = set(getattr(model, model.base_model_prefix).modules())
    linear = [name for module, name in names.items() if isinstance(module, nn.Linear | Conv1D) and module in backbone]
    if not wanted:
        return linear
    for end in wanted:
        if not any(f".{name}".endswith(f".{end}") for name in linear):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
            raise BadInputError(f"lora.targetModules: the model has no linear layer {end}; it has {known}")
    return [name for name in linear if any(f".{name}".endswith(f".{end}") for end in wanted)]


def _embeddings(model: Any, names: Mapping[nn.Module, str], tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """Return the rows to train by the name of their layer; tied output embeddings follow the input embeddings."""
    layers = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
    distinct = {id(layer.weight): layer for layer in reversed(layers)}.values()
    return {names[layer]: list(tokens) for layer in distinct} if tokens else None

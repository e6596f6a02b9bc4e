"""Loads a local Hugging Face folder as a model for the decoder, or raises one sentence with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rstar.models.model_folder import torch_device


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode. ``eos_ids`` end a text; ``context``: most tokens of one text."""

    model: Any
    tokenizer: Any
    eos_ids: tuple[int, ...]
    context: int


def load_model(path: str | Path, *, device: str, dtype: str, threads: int | None) -> LoadedModel:
    """Load the folder at ``path``. ``device``: auto, cpu or cuda; ``dtype``: auto, float32, bfloat16 or float16.

    Raises ``ValueError`` for a folder that holds no causal language model, or a device that is not there.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model: there is no config.json; give a Hugging Face model folder")
    if threads is not None:
        torch.set_num_threads(threads)
    target = torch_device(device)
    # Most CPUs are slower in half precision than in float32.
    wanted = "float32" if dtype == "auto" and target.type == "cpu" else dtype
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted)
        model = model.to(target).eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no causal language model that transformers can load: {error}") from error
    return LoadedModel(model, tokenizer, _eos_ids(model, tokenizer), _context(model))


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ids: set[int] = set()
    for eos in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids |= {eos} if isinstance(eos, int) else set(eos or ())
    return tuple(sorted(ids))


def _context(model: Any) -> int:
    """Return the most tokens of one text. Up to its window, sliding attention equals full attention."""
    config = model.config.get_text_config()
    lengths = [int(config.max_position_embeddings)]
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        lengths.append(int(config.sliding_window))
    return min(lengths)

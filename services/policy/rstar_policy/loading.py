"""Loads a local Hugging Face folder as a model for the decoder, or raises one sentence with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from rstar.models.architecture import context_length
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.pretrained import load_pretrained


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode. ``eos_ids`` end a text; ``context``: most tokens of one text."""

    model: Any
    tokenizer: TrajectoryTokenizer
    eos_ids: tuple[int, ...]
    context: int


def load_model(path: str | Path, *, device: str, dtype: str, threads: int | None) -> LoadedModel:
    """Load the folder at ``path``. ``device``: auto, cpu or cuda; ``dtype``: auto, float32, bfloat16 or float16.

    Raises ``ValueError`` for a folder that holds no causal language model that can be served, a tokenizer that does
    not keep texts, or a device that is not there.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model: there is no config.json; give a Hugging Face model folder")
    model, tokenizer = load_pretrained(
        AutoModelForCausalLM, "causal language model", folder, device=device, dtype=dtype, threads=threads
    )
    eos_ids = _eos_ids(model, tokenizer)
    return LoadedModel(model, TrajectoryTokenizer(tokenizer), eos_ids, context_length(model))


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ids: set[int] = set()
    for eos in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids |= {eos} if isinstance(eos, int) else set(eos or ())
    return tuple(sorted(ids))

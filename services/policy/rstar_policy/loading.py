"""Loads a local Hugging Face folder as a model for the decoder, or raises one sentence with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from rstar.models.architecture import context_length
from rstar.models.checkpoint_files import check_checkpoint
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.pretrained import load_pretrained
from rstar_policy.packed_weights import can_pack, pack


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
    check_checkpoint(folder, "policy")
    model, tokenizer = _load(folder, device, dtype, threads)
    ends, context = eos_ids(model.config, model.generation_config, tokenizer), context_length(model)
    if can_pack(model) and not pack(model):
        model, _ = _load(folder, device, dtype, threads)
    return LoadedModel(model, TrajectoryTokenizer(tokenizer), ends, context)


def _load(folder: Path, device: str, dtype: str, threads: int | None) -> tuple[Any, Any]:
    return load_pretrained(
        AutoModelForCausalLM, "causal language model", folder, device=device, dtype=dtype, threads=threads
    )


def eos_ids(*sources: Any) -> tuple[int, ...]:
    """Return the ids that end a text in any of the ``sources``: configurations and a tokenizer, None for a missing one."""
    ids: set[int] = set()
    for source in sources:
        eos = getattr(source, "eos_token_id", None)
        ids |= {eos} if isinstance(eos, int) else set(eos or ())
    return tuple(sorted(ids))

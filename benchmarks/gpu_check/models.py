"""Random models and the load of a search, the same for all checks. Nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Config

from benchmarks.gpu_check.runner import Setting
from rstar.interfaces import State
from rstar.trajectory import CODE, END_OF_STEP

GAME24: Final = Path(__file__).parents[2] / "examples/game24"

REAL: Final[dict[str, Any]] = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4_864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4_096,
}
"""The shape of Qwen2.5-0.5B: 0.49 billion parameters."""

SMALL: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1_024,
}
SHARP: Final = 0.3
"""Standard deviation of weights that give distinct logits, so that two implementations choose the same tokens."""


def tokenizer() -> Any:
    """Return the tokenizer of the Game of 24 example: one token per byte, the markers and the game's phrases."""
    sys.path.insert(0, str(GAME24))
    from tokenizer import build_tokenizer

    return build_tokenizer()


def policy_folder(setting: Setting, name: str, sizes: dict[str, Any]) -> Path:
    """Return the folder of a random policy, written by the first check that needs it."""
    return _folder(setting, name, sizes, AutoModelForCausalLM)


def ppm_folder(setting: Setting, name: str, sizes: dict[str, Any]) -> Path:
    """Return the folder of a random PPM, written by the first check that needs it."""
    return _folder(setting, name, {**sizes, "num_labels": 1}, AutoModelForSequenceClassification)


def real_sizes(setting: Setting) -> dict[str, Any]:
    """Return the sizes of the model whose speed is measured."""
    return SMALL if setting.quick else REAL


def _folder(setting: Setting, name: str, sizes: dict[str, Any], auto_class: Any) -> Path:
    folder = setting.folder / name
    if not folder.exists():
        words = tokenizer()
        torch.manual_seed(0)
        options = {"vocab_size": len(words), "tie_word_embeddings": True, **sizes}
        config = Qwen2Config(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **options)
        with torch.device("cpu" if setting.device == "cpu" else "cuda"):
            model = auto_class.from_config(config)
        partial = folder.with_name(f"{name}.partial")
        model.save_pretrained(partial)
        words.save_pretrained(partial)
        partial.rename(folder)
    return folder


def search_states(count: int, steps: int) -> list[State]:
    """Return ``count`` states of different problems, each with ``steps`` steps of about 50 tokens."""
    step = f"{CODE}\nx = 24 * 7 + 13\ny = x // 3\nassert y > 0{END_OF_STEP}"
    return [State(f"p{i}", f"Make 24 from {i}, 3, 8, 8. What is the sum?", (step,) * steps) for i in range(count)]

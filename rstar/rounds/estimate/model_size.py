"""The size of a model, from its ``config.json``, the headers of its safetensors files, or a number like ``7B``.

No weights are read. Covered: the architectures of Llama, Qwen2, Qwen3, Mistral and others of their form (attention with
grouped keys, a gated MLP); for another one the headers of the files give the number of parameters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rstar.models.safetensors_header import tensor_shapes

BYTES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}
_SUFFIXES: Final = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}
_UNTIED: Final = ("llama", "mistral")
"""Model types that keep the output embedding apart where the config does not say."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """``parameters`` of the whole model, the shape of its layers, and the ``dtype`` in which it is stored.

    ``assumed``: the name of the model whose shape stands in for this one's; '' where the shape is its own.
    """

    parameters: int
    layers: int
    width: int
    key_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int
    dtype: str = "bfloat16"
    assumed: str = ""

    @property
    def key_width(self) -> int:
        """Numbers per token and layer in the keys, and as many in the values."""
        return self.key_heads * self.head_width


KNOWN: Final[Mapping[str, ModelSize]] = {
    "Qwen2.5-0.5B": ModelSize(494_032_768, 24, 896, 2, 64, 4_864, 151_936),
    "Qwen2.5-1.5B": ModelSize(1_543_714_304, 28, 1_536, 2, 128, 8_960, 151_936),
    "Qwen2.5-3B": ModelSize(3_085_938_688, 36, 2_048, 2, 128, 11_008, 151_936),
    "Qwen2.5-7B": ModelSize(7_615_616_512, 28, 3_584, 4, 128, 18_944, 152_064),
    "Qwen2.5-14B": ModelSize(14_770_033_664, 48, 5_120, 8, 128, 13_824, 152_064),
    "Qwen2.5-32B": ModelSize(32_763_876_352, 64, 5_120, 8, 128, 27_648, 152_064),
    "Qwen2.5-72B": ModelSize(72_706_203_648, 80, 8_192, 8, 128, 29_568, 152_064),
}
"""Shapes from the published configs, for a model of which only the number of parameters is known."""


def parse_parameters(text: str) -> int:
    """Return the number that ``7B``, ``0.5b``, ``350M`` or ``7000000000`` stands for. Raises ``ValueError``."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMB]?)", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no number of parameters: write 7B, 0.5B or 350M")
    return round(float(found[1]) * _SUFFIXES[found[2].upper()])


def size_of_parameters(parameters: int) -> ModelSize:
    """Return a size with the shape of the known model whose number of parameters is nearest, by their ratio."""
    name, nearest = min(KNOWN.items(), key=lambda item: abs(math.log(item[1].parameters / parameters)))
    return replace(nearest, parameters=parameters, assumed=name)


def size_of_config(config: Mapping[str, Any], parameters: int | None = None) -> ModelSize:
    """Return the size by a model's ``config.json``; ``parameters`` where they are known from its files.

    Raises ``ValueError`` with one sentence when the config lacks a number, or is of another form and ``parameters`` is None.
    """
    try:
        width, layers, heads = (int(config[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        mlp, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its config.json has no usable {error}") from None
    shape = ModelSize(
        parameters=0,
        layers=layers,
        width=width,
        key_heads=int(config.get("num_key_value_heads") or heads),
        head_width=int(config.get("head_dim") or width // heads),
        mlp_width=mlp,
        vocabulary=vocabulary,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
    )
    return replace(shape, parameters=parameters or _parameters(shape, config, heads))


def _parameters(shape: ModelSize, config: Mapping[str, Any], heads: int) -> int:
    """Return the number of parameters of a model with grouped attention and a gated MLP."""
    kind = str(config.get("model_type", ""))
    if kind not in ("llama", "mistral", "qwen2", "qwen3"):
        raise ValueError(f"the number of parameters of a model of type {kind!r} does not follow from its config.json")
    queries = heads * shape.head_width
    attention = 2 * shape.width * queries + 2 * shape.width * shape.key_width
    attention += queries + 2 * shape.key_width if kind == "qwen2" or config.get("attention_bias") else 0
    attention += 2 * shape.head_width if kind == "qwen3" else 0
    layer = attention + 3 * shape.width * shape.mlp_width + 2 * shape.width
    tied = bool(config.get("tie_word_embeddings", kind not in _UNTIED))
    return shape.layers * layer + shape.width + (1 if tied else 2) * shape.vocabulary * shape.width


def size_of_folder(folder: Path) -> ModelSize:
    """Return the size of a Hugging Face folder. Raises ``ValueError`` or ``OSError`` with one sentence."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = sorted(folder.glob("*.safetensors"))
    try:
        shapes = (shape for file in files for shape in tensor_shapes(file).values())
        return size_of_config(config, sum(map(math.prod, shapes)) or None)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None

"""Models of each convention: a decoder, and a head that turns its hidden states at step ends into scores in [-1, 1].

A public model gives the probability p that a step is correct; its score is 2 p - 1. The checkpoints of Qwen2.5-Math-PRM
and Skywork-o1-Open-PRM name model classes of their own. None of that code is run: the decoder is a plain one, and the
few weights of the head are read from the checkpoint's files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear, relu
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from rstar.models.checkpoint_files import check_checkpoint
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.model_folder import ConventionName
from rstar.models.pretrained import load_pretrained
from rstar_ppm.conventions import SHEPHERD_CORRECT, SHEPHERD_WRONG, single_token

Head = Callable[[Tensor], Tensor]
"""From hidden states ``(n, width)`` to scores ``(n,)`` in float32."""

_FILES: Final = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """``decoder`` gives hidden states; ``head`` and ``tokenizer`` are those of the same checkpoint."""

    decoder: Any
    head: Head
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Loading:
    """How a checkpoint is loaded: see ``rstar.models.pretrained.load_pretrained``."""

    folder: Path
    device: str
    dtype: str
    threads: int | None

    def load(self, auto_class: Any, kind: str) -> tuple[Any, Any]:
        """Return the model in evaluation mode and its tokenizer. Raises ``ValueError``."""
        return load_pretrained(
            auto_class, kind, self.folder, device=self.device, dtype=self.dtype, threads=self.threads
        )


def load_scoring_model(name: ConventionName, loading: Loading) -> ScoringModel:
    """Load the checkpoint of a convention. Raises ``ValueError`` with one sentence when it is another kind of model."""
    match name:
        case "rstar":
            return _sequence_classifier(loading)
        case "math-shepherd":
            return _causal_model(loading)
        case "qwen-prm":
            return _decoder_with(loading, "score.", _two_labels)
        case "skywork-prm":
            return _decoder_with(loading, "v_head.summary.", _value)


def _sequence_classifier(loading: Loading) -> ScoringModel:
    check_checkpoint(loading.folder, "ppm")
    model, tokenizer = loading.load(AutoModelForSequenceClassification, "sequence classifier")
    if model.config.num_labels != 1:
        raise ValueError(f"{loading.folder} gives {model.config.num_labels} labels: a PPM has one score (num_labels=1)")
    return ScoringModel(_decoder(model), lambda hidden: torch.tanh(model.score(hidden)[:, 0].float()), tokenizer)


def _causal_model(loading: Loading) -> ScoringModel:
    model, tokenizer = loading.load(AutoModelForCausalLM, "causal language model")
    kinds = model.config.architectures or []
    if not any(kind.endswith("ForCausalLM") for kind in kinds):
        raise ValueError(f"it is a {', '.join(kinds) or 'model without a name'}, no causal language model")
    check_checkpoint(loading.folder, "policy")
    exact = TrajectoryTokenizer(tokenizer)
    labels = [single_token(exact, text) for text in (SHEPHERD_WRONG, SHEPHERD_CORRECT)]
    rows = model.get_output_embeddings().weight[labels].detach()
    return ScoringModel(_decoder(model), lambda hidden: _second_against_first(linear(hidden, rows)), tokenizer)


def _decoder_with(loading: Loading, prefix: str, head: Callable[[dict[str, Tensor]], Head]) -> ScoringModel:
    found = read_tensors(loading.folder, prefix)
    if not found:
        raise ValueError(f"the checkpoint has no head {prefix}*")
    check_checkpoint(loading.folder, "decoder")
    decoder, tokenizer = loading.load(AutoModel, "decoder")
    weights = {name.removeprefix(prefix): tensor.to(decoder.device, decoder.dtype) for name, tensor in found.items()}
    return ScoringModel(decoder, head(weights), tokenizer)


def _two_labels(weights: dict[str, Tensor]) -> Head:
    """Return Qwen2.5-Math-PRM's head: two layers (``score.0``, ``score.2``), or one, with two labels."""
    if "0.weight" in weights:
        last = weights["2.weight"]

        def logits(hidden: Tensor) -> Tensor:
            inner = relu(linear(hidden, weights["0.weight"], weights.get("0.bias")))
            return linear(inner, last, weights.get("2.bias"))
    else:
        last = weights["weight"]

        def logits(hidden: Tensor) -> Tensor:
            return linear(hidden, last, weights.get("bias"))

    if last.shape[0] != 2:
        raise ValueError(f"the head gives {last.shape[0]} labels: the convention has two, wrong and correct")
    return lambda hidden: _second_against_first(logits(hidden))


def _value(weights: dict[str, Tensor]) -> Head:
    if weights["weight"].shape[0] != 1:
        raise ValueError(f"the value head gives {weights['weight'].shape[0]} values: the convention has one")
    return lambda hidden: _score(linear(hidden, weights["weight"], weights.get("bias"))[:, 0].float())


def _second_against_first(logits: Tensor) -> Tensor:
    """Return 2 p - 1 for the softmax p of the second of two logits."""
    return _score(logits[:, 1].float() - logits[:, 0].float())


def _score(logit: Tensor) -> Tensor:
    """Return 2 sigmoid(logit) - 1, which is tanh(logit / 2)."""
    return torch.tanh(logit / 2)


def _decoder(model: Any) -> Any:
    return getattr(model, model.base_model_prefix)


def read_tensors(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Return the weights of a checkpoint whose names begin with ``prefix``. Raises ``ValueError`` when a file is missing.

    Reads safetensors and PyTorch's format, whole or in shards, and of each file the wanted weights only.
    """
    found: dict[str, Tensor] = {}
    for name in _FILES:
        index, whole = folder / f"{name}.index.json", folder / name
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            paths = {folder / shard for tensor, shard in shards.items() if tensor.startswith(prefix)}
        elif whole.is_file():
            paths = {whole}
        else:
            continue
        for path in sorted(paths):
            if not path.is_file():
                raise ValueError(f"{path} is missing: the checkpoint is incomplete")
            found |= _read_file(path, prefix)
        return found
    raise ValueError(f"{folder} has no weights: there is neither {' nor '.join(_FILES)}")


def _read_file(path: Path, prefix: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}

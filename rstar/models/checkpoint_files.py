"""Checks the files of a Hugging Face folder before a library loads them: complete, with its head, with its vocabulary.

transformers fills missing weights with random numbers and only warns, and vLLM's reason is lost in the log of another
process. Only the headers of the files are read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from rstar.models.safetensors_header import tensor_shapes
from rstar.trajectory import MARKERS

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"

Role = Literal["policy", "ppm", "decoder"]

_HEADS: Final[dict[Role, tuple[str, ...]]] = {
    "policy": ("lm_head", "embed_out"),
    "ppm": ("score", "v_head", "classifier"),
    "decoder": (),
}
_EMBEDDINGS: Final = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")


def check_checkpoint(folder: Path, role: Role) -> None:
    """Raise ``ValueError`` with one sentence when ``folder`` cannot serve as the ``role``.

    Checked: ``config.json`` is an object; every weight file is there and has the length that its header states; the head
    of the role is stored (a policy's may be tied to the embeddings; a decoder has none); the embeddings have a row for
    every token of the vocabulary and every marker. Weights that are not in safetensors files are not examined.
    """
    config = _json(folder / "config.json", f"{folder} holds no model")
    files = _weight_files(folder)
    if not files:
        return
    shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    head = _weight_of(shapes, _HEADS[role])
    if role == "ppm" and head is None:
        raise ValueError(
            f"{folder} has no scalar head: give a PPM checkpoint (a sequence classifier with num_labels=1)"
        )
    embeddings = _weight_of(shapes, _EMBEDDINGS)
    if role == "policy" and head is None and not _tied(config):
        raise ValueError(
            f"{folder} has no output head (lm_head), and config.json does not tie it to the embeddings; give a causal language model"
        )
    if embeddings is not None and (largest := _largest_token(folder)) is not None and largest >= embeddings[0]:
        raise ValueError(
            f"{folder}: its tokenizer has token {largest}, but its embeddings have {embeddings[0]} rows: "
            "tokenizer and weights belong to different checkpoints"
        )


def _weight_of(shapes: Mapping[str, tuple[int, ...]], modules: Collection[str]) -> tuple[int, ...] | None:
    """Return the shape of the weight of the first module with one of these names; None when there is none."""
    for name, shape in shapes.items():
        *path, last = name.split(".")
        if last == "weight" and any(part in modules for part in path[-2:]):
            return shape
    return None


def _tied(config: dict[str, Any]) -> bool:
    inner = config.get("text_config")
    return bool(config.get("tie_word_embeddings", isinstance(inner, dict) and inner.get("tie_word_embeddings", True)))


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of ``folder``. Raises ``ValueError`` when its index names one that is missing."""
    if not (folder / INDEX).is_file():
        return [folder / SINGLE] if (folder / SINGLE).is_file() else []
    names = _json(folder / INDEX, f"{folder} is incomplete").get("weight_map")
    if not isinstance(names, dict):
        raise ValueError(f"{folder / INDEX} has no weight_map: copy the checkpoint again")
    files = [folder / name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"{folder} is incomplete: {missing[0]} is missing ({len(missing)} of {len(files)} weight files); copy the checkpoint again"
        )
    return files


def _largest_token(folder: Path) -> int | None:
    """Return the largest id of the tokenizer's vocabulary and of the markers; None without a ``tokenizer.json``.

    Other added tokens do not count: a pad token without an embedding is common, and no text contains it.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = _json(file, f"{folder} has a broken tokenizer")
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    added = [token for token in tokenizer.get("added_tokens") or () if token.get("content") in MARKERS]
    ids = [token["id"] for token in added if isinstance(token.get("id"), int)]
    if isinstance(vocabulary, dict):
        ids += [token for token in vocabulary.values() if isinstance(token, int)]
    elif isinstance(vocabulary, list):
        ids.append(len(vocabulary) - 1)
    return max(ids, default=None)


def _json(file: Path, fault: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{fault}: there is no {file.name}; give a Hugging Face model folder") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{fault}: {file.name} cannot be read ({error}); copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{fault}: {file.name} is no JSON object; copy the checkpoint again")
    return content

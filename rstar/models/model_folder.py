"""The local folder of a model's URI, and torch's device for a name: the same for all services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rstar.store.artifacts import fetch, fetch_model
from rstar.store.open import open_store
from rstar.store.revisions import pinned

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
"""The device of a model; auto takes a GPU if there is one."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""The precision of a model; auto is the checkpoint's on a GPU and float32 on a CPU."""


EngineName = Literal["transformers", "vllm"]
"""The library that runs a served model."""

ConventionName = Literal["rstar", "qwen-prm", "math-shepherd", "skywork-prm"]
"""How a process reward model reads a solution and gives its score: see the PPM service."""


def model_folder(uri: str, store: str | None, cache: Path, round_name: str | None = None) -> Path:
    """Return a local Hugging Face folder for a path, ``store:PREFIX`` (in the store ``store``) or ``hf:ORG/NAME@REVISION``.

    ``round_name``: the round whose recorded commit of a hub model counts; None: the revision's current commit. Raises
    ``ValueError`` or ``OSError`` with a sentence that names the missing thing and its place.
    """
    opened = None if store is None else open_store(store)
    if round_name is not None and opened is not None:
        uri = pinned(uri, "model", opened, round_name)
    return fetch_model(uri, opened, cache)


def adapter_folder(uri: str, store: str | None, cache: Path) -> Path:
    """Return a local folder for the adapter at a path or ``store:PREFIX``. Raises ``ValueError`` or ``OSError``."""
    found = fetch(uri, None if store is None else open_store(store), cache)
    if isinstance(found, str):
        raise ValueError(f"{uri}: an adapter is a local folder or store:PREFIX")
    return found


def torch_device(name: str) -> torch.device:
    """Return the device; ``auto`` is CUDA if available. Raises ``ValueError`` for CUDA that is not available."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is unknown: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda is not available on this machine: use auto or cpu")
    return torch.device(name)

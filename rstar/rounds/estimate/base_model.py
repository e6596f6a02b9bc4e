"""Finds the size of a base model where its files are: a folder, a store, or the hub's cache. Nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

from rstar.rounds.estimate.model_size import ModelSize, size_of_config, size_of_folder
from rstar.store.folder_store import FolderStore
from rstar.store.store import Store


def find_config(uri: str, store: Store | None) -> ModelSize | None:
    """Return the size of the model at ``uri``, or None where it is not here.

    In a bucket only ``config.json`` is read, so the number of parameters follows from it. Raises ``ValueError`` or
    ``OSError`` with one sentence for files that give no size.
    """
    if uri.startswith("hf:"):
        return _in_cache(uri.removeprefix("hf:"))
    if not uri.startswith("store:"):
        folder = Path(uri)
        return size_of_folder(folder) if (folder / "config.json").is_file() else None
    key = uri.removeprefix("store:").strip("/")
    if store is None:
        return None
    if isinstance(store, FolderStore):
        folder = store.path(key)
        return size_of_folder(folder) if (folder / "config.json").is_file() else None
    try:
        return size_of_config(json.loads(store.read(f"{key}/config.json")))
    except KeyError:
        return None


def _in_cache(name: str) -> ModelSize | None:
    """Return the size of a model of the hub that an earlier run has downloaded."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return size_of_folder(Path(found).parent) if isinstance(found, str) else None

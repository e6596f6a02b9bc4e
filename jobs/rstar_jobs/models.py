"""The models that a stage reads: the base model of the spec, and the checkpoint of an earlier stage."""

from __future__ import annotations

from pathlib import Path

from rstar.rounds.artifacts import fetch
from rstar.rounds.checkpoint import checkpoint_digest
from rstar_jobs.program import BadInputError, Invocation

CHECKPOINT = "checkpoint"
"""Folder of a training stage in which its model lies, in Hugging Face's format."""


def base_model(invocation: Invocation) -> tuple[Path | str, str]:
    """Return where the spec's base model is, and its digest (``hf:NAME`` for a hub's). Raises ``BadInputError``."""
    uri = invocation.round.spec.base_model
    place = _fetch(uri, invocation)
    return place, checkpoint_digest(place) if isinstance(place, Path) else uri


def input_model(invocation: Invocation, name: str) -> Path:
    """Return the folder of the model that the input ``name`` left behind. Raises ``BadInputError``."""
    expected = invocation.load(name).folder_digest(CHECKPOINT)
    folder = Path(_fetch(f"store:{invocation.need(name).prefix}/{CHECKPOINT}", invocation))
    if checkpoint_digest(folder) != expected:
        raise BadInputError(f"{folder} does not match its manifest: was it changed by hand?")
    return folder


def _fetch(uri: str, invocation: Invocation) -> Path | str:
    try:
        return fetch(uri, invocation.store, invocation.cache)
    except (ValueError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from None

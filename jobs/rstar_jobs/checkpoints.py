"""Models before and after training, as plain Hugging Face folders.

transformers and vLLM load the stored folders without this project.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers.utils.logging import disable_progress_bar

from rstar.models.architecture import context_length
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.pretrained import open_pretrained
from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import ManifestRef
from rstar.rounds.stage import StageRun
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import CHECKPOINT
from rstar_jobs.processes import is_leader
from rstar_jobs.resume import ResumeStore
from rstar_jobs.training import Trained


def load(auto_class: Any, place: Path, **options: Any) -> tuple[Any, Any]:
    """Return a model in float32 (the optimiser's precision) and its tokenizer, which has a pad token.

    ``place`` is a folder. Raises ``BadInputError`` when there is no such model, and for one that
    could not be served once it is trained.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, tokenizer = open_pretrained(auto_class, "model for this stage", place, dtype=torch.float32, **options)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise BadInputError(f"the tokenizer of {place} has neither a pad nor an end-of-text token: give it one")
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def trajectory_tokenizer(tokenizer: Any) -> TrajectoryTokenizer:
    """Return the encoder that the services use too. Raises ``BadInputError`` for a tokenizer that does not keep texts."""
    try:
        return TrajectoryTokenizer(tokenizer)
    except ValueError as error:
        raise BadInputError(str(error)) from error


def length_limit(model: Any, max_length: int) -> int:
    """Return the limit of a sequence in tokens: the spec's or the model's, whichever is smaller."""
    return min(max_length, context_length(model))


def finish(
    stage: StageRun, resume: ResumeStore, trained: Trained, tokenizer: Any, metrics: Mapping[str, Any]
) -> tuple[ManifestRef, Manifest] | None:
    """Store the model, write the manifest and delete the resumable state; None in processes that are not the leader."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not is_leader():
        return None
    with tempfile.TemporaryDirectory(prefix="rstar-checkpoint-") as folder:
        trained.model.save_pretrained(folder, state_dict=trained.state)
        tokenizer.save_pretrained(folder)
        outputs = stage.upload_folder(Path(folder), CHECKPOINT)
    structlog.get_logger().info("trained", **{**trained.metrics, **metrics})
    done = stage.finish(outputs, {**trained.metrics, **metrics})
    resume.clear()
    return done

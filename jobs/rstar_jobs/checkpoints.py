"""Models before and after training, as plain Hugging Face folders.

transformers and vLLM load the stored folders without this project.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
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
from rstar.rounds.training_spec import TrainingSpec
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import CHECKPOINT
from rstar_jobs.lora import check_lora_installed
from rstar_jobs.processes import is_leader
from rstar_jobs.resume import ResumeStore
from rstar_jobs.sharded_loading import loader
from rstar_jobs.training import Trained


def load(auto_class: Any, place: Path, spec: TrainingSpec, **options: Any) -> tuple[Any, Any]:
    """Return a model for training and its tokenizer, which has a pad token.

    The weights are float32, the optimiser's format; frozen ones (LoRA) are bfloat16 where ``precision`` is. A model that is
    sharded is read by the leader only, and has no weights in the other processes until the trainer shards it.

    ``place`` is a folder. Raises ``BadInputError`` when there is no such model, for one that could
    not be served once it is trained, and for settings that need a package or a GPU that is not there.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    if spec.lora is not None:
        check_lora_installed()
    frozen = spec.lora is not None and spec.precision == "bfloat16"
    options |= {"dtype": torch.bfloat16 if frozen else torch.float32} | _attention(spec)
    try:
        model, tokenizer = open_pretrained(loader(auto_class, spec), "model for this stage", place, **options)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise BadInputError(f"the tokenizer of {place} has neither a pad nor an end-of-text token: give it one")
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _attention(spec: TrainingSpec) -> dict[str, str]:
    if spec.attention == "auto":
        return {}
    if spec.attention == "flash_attention_2":
        instead = "or use attention: sdpa"
        if not torch.cuda.is_available():
            raise BadInputError(f"attention flash_attention_2 needs a GPU, and there is none: train on one, {instead}")
        if find_spec("flash_attn") is None:
            raise BadInputError(
                f"attention flash_attention_2 needs the package flash-attn, which is not installed: install it, {instead}"
            )
    return {"attn_implementation": spec.attention}


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
        # save_pretrained writes the number format in which the model was trained.
        trained.model.config.dtype = trained.dtype
        trained.model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        outputs = stage.upload_folder(Path(folder), CHECKPOINT)
    structlog.get_logger().info("trained", **{**trained.metrics, **metrics})
    done = stage.finish(outputs, {**trained.metrics, **metrics})
    resume.clear()
    return done

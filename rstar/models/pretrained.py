"""Loads a Hugging Face folder: the same for the policy, the PPM and the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from rstar.models.architecture import check_architecture
from rstar.models.model_folder import torch_device

SMALL_MODEL: Final = 20_000_000
"""Parameters from which on a model on a CPU gains from all cores, though other services run beside it."""

_DEFAULT_THREADS: Final = torch.get_num_threads()
"""OMP_NUM_THREADS, or one per core."""


def open_pretrained(auto_class: Any, kind: str, place: str | Path, **options: Any) -> tuple[Any, Any]:
    """Return the model at ``place`` (a folder, or a name on the hub) and its tokenizer, on the CPU.

    ``auto_class`` is one of transformers, which gets the ``options``. Raises ``ValueError`` with one sentence when there
    is no model of this ``kind``, and for an architecture that cannot be served.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        model = auto_class.from_pretrained(place, **options)
    except torch.OutOfMemoryError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{place} is no {kind} that transformers can load: {reason}") from error
    check_architecture(model, place)
    return model, tokenizer


def load_pretrained(
    auto_class: Any, kind: str, folder: str | Path, *, device: str, dtype: str, threads: int | None
) -> tuple[Any, Any]:
    """Return the model of ``folder`` in evaluation mode, and its tokenizer; ``auto_class`` is one of transformers.

    ``device``: auto, cpu or cuda; ``dtype``: auto, float32, bfloat16 or float16; ``threads`` are torch's CPU threads
    (None: torch's default, and half of it for a model of fewer than ``SMALL_MODEL`` parameters). Raises ``ValueError`` as
    ``open_pretrained`` does, and for a device that is not available.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    target = torch_device(device)
    # Most CPUs are slower in half precision than in float32.
    wanted = "float32" if dtype == "auto" and target.type == "cpu" else dtype
    model, tokenizer = open_pretrained(auto_class, kind, folder, dtype=wanted)
    if threads is None and target.type == "cpu" and model.num_parameters() < SMALL_MODEL:
        # Executor, search and the other model need the other cores: with all cores for each a policy of 0.7 million
        # parameters was 17 % slower.
        torch.set_num_threads(min(torch.get_num_threads(), max(1, _DEFAULT_THREADS // 2)))
    return model.to(target).eval(), tokenizer

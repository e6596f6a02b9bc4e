"""Loads a Hugging Face folder onto a device: the same for the policy and the PPM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from rstar.models.model_folder import torch_device


def load_pretrained(
    auto_class: Any, kind: str, folder: str | Path, *, device: str, dtype: str, threads: int | None
) -> tuple[Any, Any]:
    """Return the model of ``folder`` in evaluation mode, and its tokenizer; ``auto_class`` is one of transformers.

    ``device``: auto, cpu or cuda; ``dtype``: auto, float32, bfloat16 or float16; ``threads`` are torch's CPU threads
    (None: torch's default). Raises ``ValueError`` for a folder that holds no model of this ``kind`` and for a device
    that is not available.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    target = torch_device(device)
    # Most CPUs are slower in half precision than in float32.
    wanted = "float32" if dtype == "auto" and target.type == "cpu" else dtype
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = auto_class.from_pretrained(folder, dtype=wanted).to(target).eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no {kind} that transformers can load: {error}") from error
    return model, tokenizer

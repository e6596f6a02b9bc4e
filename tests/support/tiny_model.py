"""Tiny random Llama and Qwen2 models, and a byte-level tokenizer with the markers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from prometheus_client import REGISTRY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from rstar.trajectory import MARKERS

EOS = "<|endoftext|>"


def byte_tokenizer() -> Any:
    """Return a tokenizer with one token per byte, the end of text and the markers, in this order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token=EOS, pad_token=EOS
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
    return tokenizer


def tiny_config(kind: str, vocabulary: int, **more: Any) -> Any:
    """Return two layers, four heads (two for keys), 512 tokens of context, and weights that give sharp logits."""
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        **more,
    }
    return LlamaConfig(**sizes) if kind == "llama" else Qwen2Config(**sizes)


def save_policy(kind: str, folder: Path, **sizes: Any) -> Path:
    """Write a random policy and its tokenizer; ``sizes`` are keys of the configuration."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = tiny_config(kind, len(tokenizer), eos_token_id=tokenizer.eos_token_id, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_ppm(kind: str, folder: Path, **sizes: Any) -> Path:
    """Write a random preference model and its tokenizer; ``sizes`` are keys of the configuration."""
    torch.manual_seed(1)
    tokenizer = byte_tokenizer()
    config = tiny_config(kind, len(tokenizer), num_labels=1, pad_token_id=tokenizer.pad_token_id, **sizes)
    model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def decoding_steps() -> float:
    """Return the number of decoding forward passes in this process."""
    return REGISTRY.get_sample_value("rstar_policy_batch_rows_count") or 0.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that depends on another thread."""
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)

"""Models that cannot be served are refused by one sentence wherever they are loaded: policy, PPM and training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from rstar_jobs.checkpoints import load
from rstar_jobs.errors import BadInputError
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rstar.models.architecture import check_architecture, context_length
from rstar.rounds.training_spec import TrainingSpec
from tests.support.tiny_model import byte_tokenizer, tiny_config

TINY: dict[str, Any] = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1}

REFUSED: dict[str, tuple[Any, str]] = {
    "bloom": (transformers.BloomConfig(vocab_size=300, hidden_size=16, n_layer=1, n_head=2), "takes no position ids"),
    "mpt": (transformers.MptConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2), "takes no position ids"),
    "bert": (
        transformers.BertConfig(**TINY, intermediate_size=16, num_attention_heads=2),
        "is an encoder: its attention sees later tokens",
    ),
    "mamba": (transformers.MambaConfig(**TINY, state_size=4), "keeps a recurrent state"),
    "mamba2": (
        transformers.Mamba2Config(**TINY, state_size=4, num_heads=4, head_dim=8, n_groups=1),
        "keeps a recurrent state",
    ),
    "recurrent_gemma": (
        transformers.RecurrentGemmaConfig(**TINY, intermediate_size=16, num_attention_heads=2, lru_width=16),
        "keeps a recurrent state",
    ),
}

ENCODER_DECODERS: dict[str, Any] = {
    "t5": transformers.T5Config(vocab_size=300, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2),
    "bart": transformers.BartConfig(
        vocab_size=300,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    ),
}


def saved(config: Any, folder: Path, auto_class: Any = AutoModelForCausalLM) -> Path:
    config.pad_token_id, config.num_labels = 0, 1
    auto_class.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


LOADERS: dict[str, Callable[[Path], Any]] = {
    "policy": TransformersPolicy.load,
    "training": lambda folder: load(AutoModelForCausalLM, folder, TrainingSpec()),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_an_architecture_that_cannot_be_served_is_refused_with_the_reason(
    kind: str, loader: str, tmp_path: Path
) -> None:
    config, reason = REFUSED[kind]
    folder = saved(config, tmp_path)
    with pytest.raises((ValueError, BadInputError)) as caught:
        LOADERS[loader](folder)
    message = str(caught.value)
    assert message.startswith(f"{folder} cannot be served: '{kind}' {reason}")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@pytest.mark.parametrize("auto_class", [transformers.AutoModelForSeq2SeqLM, AutoModelForSequenceClassification])
def test_an_encoder_decoder_is_refused(kind: str, auto_class: Any, tmp_path: Path) -> None:
    folder = saved(ENCODER_DECODERS[kind], tmp_path, auto_class)
    loaders: list[Callable[[Path], Any]] = [*LOADERS.values(), TransformersPreferenceModel.load]
    for loader in loaders:
        with pytest.raises((ValueError, BadInputError)) as caught:
            loader(folder)
        assert len(str(caught.value).splitlines()) == 1


def test_a_ppm_that_takes_no_position_ids_is_refused(tmp_path: Path) -> None:
    folder = saved(REFUSED["bloom"][0], tmp_path, AutoModelForSequenceClassification)
    with pytest.raises(ValueError, match="'bloom' takes no position ids"):
        TransformersPreferenceModel.load(folder)


def test_a_model_without_a_context_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = AutoModelForCausalLM.from_config(tiny_config("llama", 300))  # type: ignore[no-untyped-call]
    check_architecture(model, "here")
    del model.config.max_position_embeddings
    monkeypatch.delattr(type(model.config), "max_position_embeddings")
    with pytest.raises(ValueError, match=r"here cannot be served: 'llama' names no context length"):
        check_architecture(model, "here")


@pytest.mark.parametrize(("window", "length"), [(None, 64), (32, 32), (128, 64)])
def test_the_context_ends_at_the_window_of_models_that_have_one_in_all_layers(window: int | None, length: int) -> None:
    sizes = {**TINY, "intermediate_size": 16, "num_attention_heads": 2, "max_position_embeddings": 64}
    for kind in (transformers.Phi3Config, transformers.MistralConfig):
        config = kind(**sizes, sliding_window=window, pad_token_id=0)
        assert context_length(AutoModelForCausalLM.from_config(config)) == length  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("qwen2", 300),
        transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64),
        transformers.Phi3Config(**TINY, intermediate_size=16, num_attention_heads=2, pad_token_id=0),
        transformers.GemmaConfig(**TINY, intermediate_size=16, num_attention_heads=2, head_dim=8),
        transformers.OPTConfig(**TINY, ffn_dim=16, num_attention_heads=2, word_embed_proj_dim=16),
        transformers.GPTNeoXConfig(**TINY, intermediate_size=16, num_attention_heads=2),
        transformers.MistralConfig(**TINY, intermediate_size=16, num_attention_heads=2, sliding_window=32),
    ],
    ids=lambda config: config.model_type,
)
def test_decoders_with_full_or_sliding_attention_are_accepted(config: Any) -> None:
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    check_architecture(model, "here")
    assert context_length(model) > 0

"""The PPM's scalar head: found in every architecture, started near 0, refused where tanh is saturated."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from rstar_jobs.batches import PairCollator
from rstar_jobs.encoded import EncodedPair
from rstar_jobs.errors import BadInputError
from rstar_jobs.preference import margins, pairwise_trainer
from rstar_jobs.preference_head import HEAD_SLOPE, LEAST_SLOPE, check_slope, scalar_head, start_head
from rstar_jobs.progress import Progress
from rstar_jobs.resume import ResumeStore
from rstar_jobs.training import TrainingData, train
from transformers import AutoConfig, AutoModelForSequenceClassification

from rstar.rounds.observed import Stage
from rstar.rounds.stage import StageRun
from rstar.rounds.training_spec import PreferenceTrainingSpec
from rstar.store.folder_store import FolderStore

HEADS = {
    "llama": "score",
    "qwen2": "score",
    "gpt2": "score",
    "gemma3_text": "score",
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "bart": "classification_head.out_proj",
    "xlnet": "logits_proj",
    "xlm": "sequence_summary.summary",
}
"""The head of a model of one label, by architecture: every name that causal language models have for it."""

HIDDEN, NORM = 64, 161.0


def tiny(seed: int, norm: float = NORM) -> Any:
    """Return a random Llama whose last hidden states have this norm."""
    torch.manual_seed(seed)
    model = llama(num_labels=1)
    with torch.no_grad():
        model.model.norm.weight.fill_(norm / HIDDEN**0.5)
    return model


def llama(**settings: Any) -> Any:
    """Return a random Llama of one layer."""
    sizes = {"vocab_size": 64, "hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 1}
    config = AutoConfig.for_model("llama", **sizes, num_attention_heads=4, pad_token_id=0, **settings)
    return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]


def some_pairs(seed: int, count: int) -> list[EncodedPair]:
    """Return pairs with the same random prefix, of which the better one ends in another token."""
    draw = random.Random(seed)

    def pair() -> EncodedPair:
        prefix = [draw.randrange(10, 60) for _ in range(6)]
        chosen, rejected = (np.array([*prefix, last], np.int32) for last in (3, 4))
        return EncodedPair(chosen, rejected, 1.0, final=False)

    return [pair() for _ in range(count)]


def lengths_of(pairs: list[EncodedPair]) -> list[int]:
    return [len(pair.chosen) + len(pair.rejected) for pair in pairs]


def trained(model: Any, folder: Path, seed: int, precision: Literal["float32", "bfloat16"] = "float32") -> float:
    """Train for 20 steps, and return the slope of tanh at the start."""
    data = some_pairs(seed, 20 * 8)
    spec = PreferenceTrainingSpec(batch_size=8, micro_batch_size=4, learning_rate=1e-4, precision=precision)
    stage = StageRun(FolderStore(folder), "r1", Stage.TRAIN_PPM, seed, {})
    done = train(
        pairwise_trainer(1.0),
        model,
        TrainingData(data, lengths_of(data), PairCollator(0)),
        spec,
        seed=seed,
        resume=ResumeStore(stage),
        progress=Progress(None, Stage.TRAIN_PPM),
    )
    assert done.metrics["steps"] == 20
    return float(next(entry[HEAD_SLOPE] for entry in done.log if HEAD_SLOPE in entry))


@pytest.mark.parametrize("architecture", HEADS)
def test_the_one_layer_that_gives_the_score_is_found(architecture: str) -> None:
    config = AutoConfig.for_model(architecture, num_labels=1, pad_token_id=0)
    for layers in ("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"):
        if hasattr(config, layers):
            setattr(config, layers, 1)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    assert [name for name, module in model.named_modules() if module is scalar_head(model)] == [HEADS[architecture]]
    start_head(model, 0)  # other processes of a sharded run have no weights yet


def test_a_model_with_several_scores_is_refused() -> None:
    with pytest.raises(BadInputError, match="has 0 scalar heads where a PPM needs one"):
        scalar_head(llama(num_labels=3))


def test_the_first_weights_are_near_0_and_the_same_for_the_same_seed() -> None:
    weights: list[torch.Tensor] = []
    for seed in (5, 5, 6):
        model = tiny(seed=len(weights))
        start_head(model, seed)
        weights.append(scalar_head(model).weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert 0 < weights[0].abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_hidden_states_as_long_as_a_real_models_are_separated_within_20_steps(tmp_path: Path, seed: int) -> None:
    model = tiny(seed)
    start_head(model, seed)
    assert trained(model, tmp_path, seed) > 0.999
    pairs = some_pairs(1_000, 40)
    assert min(margins(model, pairs, lengths_of(pairs), PairCollator(0), 40)) > 0


def test_the_head_starts_and_learns_the_same_way_in_bfloat16(tmp_path: Path) -> None:
    model = tiny(0)
    start_head(model, 0)
    assert trained(model, tmp_path, 0, "bfloat16") > 0.999
    pairs = some_pairs(1_000, 40)
    assert min(margins(model, pairs, lengths_of(pairs), PairCollator(0), 40)) > 0


def test_a_saturated_head_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model = tiny(0)
    with torch.no_grad():
        scalar_head(model).weight.normal_(0, 0.1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(
        BadInputError, match=r"the PPM's head starts in saturation: the mean slope of tanh is .* on the first batch"
    ):
        trained(model, tmp_path, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("slope", [float("nan"), 0.0, LEAST_SLOPE - 1e-6])
def test_a_slope_below_the_least_or_none_is_refused(slope: float) -> None:
    with pytest.raises(BadInputError):
        check_slope(slope)
    check_slope(LEAST_SLOPE)

"""The formulae of docs/planning.md, against values computed by hand, and what must hold for any values."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.rounds.estimate.memory import PREFIX_CACHE, serving, training
from rstar.rounds.estimate.model_size import (
    KNOWN,
    ModelSize,
    parse_parameters,
    size_of_config,
    size_of_folder,
    size_of_parameters,
)
from rstar.rounds.estimate.search_cost import SearchCost, Texts, expansions, search_cost

TEXTS = Texts(prompt_tokens=100, steps=5, step_tokens=40, distinct=1.0, valid=1.0)
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3_584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18_944,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
UNIT = ModelSize(parameters=1_000, layers=2, width=10, key_heads=1, head_width=5, mlp_width=20, vocabulary=50)


@pytest.mark.parametrize(
    ("rollouts", "branches", "steps", "expected"),
    [
        (1, 8, 5, 5),  # one node per level
        (8, 8, 5, 5 + 7 * 4),  # each further rollout begins at another child of the root
        (16, 8, 5, 5 + 7 * 4 + 8 * 3),
        (1_000, 2, 3, 3 + 1 * 2 + 2 * 1),  # the whole tree: the root, its 2 children and their 4
        (16, 1, 5, 5),  # one way only
        (16, 8, 1, 1),
    ],
)
def test_expanded_nodes_of_a_tree(rollouts: int, branches: float, steps: float, expected: float) -> None:
    assert expansions(rollouts, branches, steps) == expected


def test_mcts_generates_n_candidates_per_expanded_node() -> None:
    cost = search_cost(SearchConfig(rollouts=16, candidates=8), TEXTS, guided=True)
    assert cost == SearchCost(
        calls=57, tokens=57 * 8 * 40, read=57 * (100 + 40 * 2), nodes=456, executions=456 * 4 / 5, scored=456
    )
    two_trees = search_cost(SearchConfig(rollouts=16, candidates=8, trajectories=2), TEXTS, guided=False)
    assert (two_trees.tokens, two_trees.scored) == (2 * cost.tokens, 0)


def test_widening_proposes_more_at_every_pass_through_an_expanded_node() -> None:
    cost = search_cost(SearchConfig(rollouts=16, candidates=8, widening=2), TEXTS, guided=False)
    assert cost.calls == 16 * 5
    assert cost.tokens == 40 * (57 * 8 + (80 - 57) * 2)


def test_a_token_budget_ends_a_search_with_the_expansion_that_reaches_it() -> None:
    config = SearchConfig(rollouts=16, candidates=8, token_budget=1_000)
    assert search_cost(config, TEXTS, guided=False).tokens == pytest.approx(1_000 + 8 * 40 / 2)
    assert search_cost(config.model_copy(update={"token_budget": 10**9}), TEXTS, guided=False).tokens == 57 * 320


def test_sampling_and_beam_search() -> None:
    greedy = search_cost(SearchConfig(method="greedy", answer="output"), TEXTS, guided=False)
    assert (greedy.calls, greedy.tokens, greedy.executions) == (1, 200, 1)
    samples = search_cost(SearchConfig(method="majority", rollouts=16), TEXTS, guided=False)
    assert (samples.calls, samples.tokens, samples.executions) == (17, 16 * 200, 16)
    beam = search_cost(SearchConfig(method="beam", beam_width=4, candidates=8, guidance="ppm"), TEXTS, guided=True)
    assert (beam.calls, beam.tokens) == (17, 17 * 8 * 40)


texts = st.builds(
    Texts,
    prompt_tokens=st.floats(1, 1_000),
    steps=st.floats(1, 12),
    step_tokens=st.floats(1, 300),
    distinct=st.floats(0.05, 1),
    valid=st.floats(0.05, 1),
)
configs = st.builds(
    SearchConfig,
    method=st.sampled_from(["mcts", "best_of_n", "majority"]),
    rollouts=st.integers(1, 200),
    candidates=st.integers(1, 64),
    widening=st.integers(0, 4),
    token_budget=st.none() | st.integers(1, 100_000),
)


@given(configs, texts, st.integers(1, 50), st.integers(1, 10))
def test_more_rollouts_or_candidates_never_cost_less(
    config: SearchConfig, some: Texts, rollouts: int, candidates: int
) -> None:
    cost = search_cost(config, some, guided=True)
    for change in (
        {"rollouts": config.rollouts + rollouts},
        {"candidates": max(config.candidates + candidates, config.widening)},
    ):
        more = search_cost(config.model_copy(update=change), some, guided=True)
        assert more.tokens >= cost.tokens * (1 - 1e-9)


@given(texts, st.integers(1, 200), st.floats(1, 64))
def test_a_tree_has_no_more_expansions_than_rollouts_times_steps(some: Texts, rollouts: int, branches: float) -> None:
    found = expansions(rollouts, branches, some.steps)
    assert some.steps <= found <= rollouts * some.steps * (1 + 1e-9)


def test_the_parameters_of_published_models_follow_from_their_configs() -> None:
    assert size_of_config(QWEN_7B) == KNOWN["Qwen2.5-7B"]
    small = {**QWEN_7B, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14}
    small |= {"num_key_value_heads": 2, "intermediate_size": 4_864, "vocab_size": 151_936, "tie_word_embeddings": True}
    assert size_of_config(small) == KNOWN["Qwen2.5-0.5B"]
    llama = {**QWEN_7B, "model_type": "llama", "hidden_size": 4_096, "num_hidden_layers": 32, "num_attention_heads": 32}
    llama |= {"num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256}
    assert size_of_config(llama).parameters == 8_030_261_248  # Llama 3.1 8B


def test_a_config_of_another_form_needs_the_files_or_is_refused() -> None:
    other: dict[str, Any] = {**QWEN_7B, "model_type": "falcon_mamba"}
    assert size_of_config(other, parameters=123).parameters == 123
    with pytest.raises(ValueError, match="type 'falcon_mamba' does not follow"):
        size_of_config(other)
    with pytest.raises(ValueError, match="no usable 'hidden_size'"):
        size_of_config({})


def test_the_headers_of_the_files_are_counted_and_no_weight_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_7B))
    for name, shape in (("a", [3, 4]), ("b", [5])):
        header = {"__metadata__": {"format": "pt"}, name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
        data = json.dumps(header).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)
    assert size_of_folder(tmp_path).parameters == 17
    (tmp_path / "a.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(ValueError, match="safetensors is no safetensors file"):
        size_of_folder(tmp_path)


def test_a_number_of_parameters_is_read_and_takes_the_shape_of_the_nearest_model() -> None:
    assert [parse_parameters(text) for text in ("7B", "0.5b", "350M", "1000")] == [
        7 * 10**9,
        5 * 10**8,
        350 * 10**6,
        1_000,
    ]
    for bad in ("seven", "7X", "", "0"):
        with pytest.raises(ValueError, match="write 7B"):
            parse_parameters(bad)
    assert size_of_parameters(7 * 10**9).assumed == "Qwen2.5-7B"
    assert size_of_parameters(7 * 10**9).parameters == 7 * 10**9


def test_adamw_needs_16_bytes_per_parameter_and_autocast_2_more() -> None:
    model = KNOWN["Qwen2.5-7B"]
    memory = training(model, sequences=0, length=0, mixed=False)
    assert memory.total == 16 * 7_615_616_512
    assert (memory.weights, memory.gradients, memory.optimiser) == tuple(n * 7_615_616_512 for n in (4, 4, 8))
    assert training(model, sequences=0, length=0, mixed=True).total == 18 * 7_615_616_512


def test_fsdp_divides_all_but_two_gathered_layers() -> None:
    memory = training(UNIT, sequences=0, length=0, mixed=True, shards=4)
    layer = (1_000 - 50 * 10) / 2
    assert memory.total == 16 * 1_000 / 4 + 2 * 2 * layer


def test_activations_of_training() -> None:
    layer = 8 * 10 + 4 * 5 + 4 * 20
    without = training(UNIT, sequences=3, length=7, mixed=True, logits=False).activations
    assert without == 21 * 2 * layer * 2
    assert training(UNIT, sequences=3, length=7, mixed=True).activations == without + 21 * 50 * (2 + 8)
    checkpointed = training(UNIT, sequences=3, length=7, mixed=True, logits=False, checkpointing=True).activations
    assert checkpointed == 21 * (2 * 10 * 2 + layer * 2)


def test_a_policy_server_holds_keys_and_values_of_all_sequences() -> None:
    memory = serving(UNIT, number_bytes=2, sequences=3, length=7)
    assert memory.weights == 2_000
    assert memory.keys_and_values == 2 * 2 * 5 * 2 * 21 + PREFIX_CACHE
    assert serving(UNIT, number_bytes=2, sequences=3, length=7, devices=2).total == memory.total / 2
    assert serving(UNIT, number_bytes=2, sequences=0, length=0, policy=False).keys_and_values == PREFIX_CACHE

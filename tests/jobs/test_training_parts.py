"""The parts of training: labels, equation 4, the data order, special tokens, batches, resumable checkpoints."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rstar_jobs.batches import ExampleCollator, PairCollator
from rstar_jobs.encoded import NO_LOSS, EncodedPair, ExampleData, PairData, encode_example
from rstar_jobs.markers import LEARNED_SHIFT, add_markers, as_tokens, marker_ids, missing_markers
from rstar_jobs.preference import pairwise_loss
from rstar_jobs.resume import ResumeStore
from rstar_jobs.training_order import permutation, training_order
from transformers import AutoModelForCausalLM, AutoTokenizer

from rstar.models.encoding import TrajectoryTokenizer
from rstar.prompt import render, render_prompt
from rstar.rounds.observed import Stage
from rstar.rounds.stage import StageRun
from rstar.rounds.training_spec import MarkerForm
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.folder_store import FolderStore
from rstar.trajectory import MARKERS
from tests.support.jobs.stage_workspace import make_base, trajectory
from tests.support.whole_pairs import whole_pairs

GROUPS = [
    PairGroup(
        "p",
        "q?",
        ("a<end_of_step>",),
        (Continuation(("b",), 1.0, False),),
        (Continuation(("c",), 0.5, False), Continuation(("long " * 20, "d"), 0.2, True)),
        ((0, 0), (0, 1)),
    ),
    PairGroup("p2", "which?", (), (Continuation(("yes",), 1.0, True),), (Continuation((), -1.0, False),), ((0, 0),)),
]
"""The second trajectory of the second pair, and the first question of the third, are long."""


def test_the_loss_is_on_the_policys_text_and_on_the_end_of_text(tmp_path: Path) -> None:
    make_base(tmp_path, markers=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    example = SftExample("p", "What is 2 + 2?", trajectory(2, 4), 1.0)
    encoded = encode_example(TrajectoryTokenizer(tokenizer), example)
    trained = encoded.ids[encoded.labels != NO_LOSS]
    masked = encoded.ids[encoded.labels == NO_LOSS]
    assert encoded.labels[encoded.labels != NO_LOSS].tolist() == trained.tolist()
    assert tokenizer.decode(encoded.ids) == render(example.question, example.steps) + "<eos>"
    written = "".join(example.steps).replace("\n<output>4<end_of_output>\n", "")
    assert tokenizer.decode(trained) == written + "<eos>"
    assert tokenizer.decode(masked) == render_prompt(example.question) + "\n<output>4<end_of_output>\n"


def test_both_sides_of_a_pair_are_the_texts_that_the_ppm_scores(tmp_path: Path) -> None:
    make_base(tmp_path, markers=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    data = PairData(TrajectoryTokenizer(tokenizer), GROUPS, 1_000, tmp_path)
    expanded = whole_pairs(GROUPS)
    assert len(data) == len(expanded) == 3
    for encoded, pair in zip(data, expanded, strict=True):
        assert tokenizer.decode(encoded.chosen) == render(pair.question, pair.chosen)
        assert tokenizer.decode(encoded.rejected) == render(pair.question, pair.rejected)
        assert (encoded.weight, encoded.final) == (pair.weight, pair.final)
    assert list(data.problems) == [0, 0, 1]
    assert list(data.lengths) == [len(pair.chosen) + len(pair.rejected) for pair in data]


def test_examples_and_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    make_base(tmp_path, markers=True)
    tokenizer = TrajectoryTokenizer(AutoTokenizer.from_pretrained(tmp_path))
    longest = len(tokenizer.state("q?", ("a<end_of_step>", "b")))
    pairs = PairData(tokenizer, GROUPS, longest, tmp_path)
    assert (len(pairs), pairs.too_long) == (1, 2)
    examples = [SftExample("p", "q?", ("x" * size,), 1.0) for size in (1, 2, 300)]
    data = ExampleData(tokenizer, examples, 100, tmp_path)
    assert (len(data), data.too_long) == (2, 1)
    assert data[1].ids.tolist() == encode_example(tokenizer, examples[1]).ids.tolist()
    assert data[1].labels.tolist() == encode_example(tokenizer, examples[1]).labels.tolist()
    assert not PairData(tokenizer, [], 100, tmp_path)


def test_the_loss_of_four_pairs_is_equation_4() -> None:
    positives, negatives = [0.5, 0.1], [-0.2, 0.3]
    pairs = [(p, n) for p in range(2) for n in range(2)]
    by_hand = -sum(math.log(1 / (1 + math.exp(-(positives[p] - negatives[n])))) for p, n in pairs) / (2 * 2)
    loss = pairwise_loss(
        torch.tensor([*positives, *negatives]),
        torch.tensor([p for p, _ in pairs]),
        torch.tensor([2 + n for _, n in pairs]),
        torch.full((4,), 0.25),
        scale=1.0,
    )
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)


def test_every_node_counts_once_however_many_pairs_it_has() -> None:
    scores = torch.tensor([0.9, -0.9, 0.0, 0.4])
    single = pairwise_loss(scores, torch.tensor([0]), torch.tensor([1]), torch.ones(1), 4.0)
    other = pairwise_loss(scores, torch.tensor([2]), torch.tensor([3]), torch.ones(1), 4.0)
    both = pairwise_loss(scores, torch.tensor([0, 0, 2]), torch.tensor([1, 1, 3]), torch.tensor([0.5, 0.5, 1.0]), 4.0)
    assert both.item() == pytest.approx((single.item() + other.item()) / 2)


def test_a_sequence_that_pairs_share_is_in_a_batch_once() -> None:
    a, b, c = (np.array(ids, np.int32) for ids in ([1, 2, 3], [1, 2], [4]))
    batch = PairCollator(0)([EncodedPair(a, b, 0.5, final=False), EncodedPair(a, c, 0.5, final=False)])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 2, 0], [4, 0, 0]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 2, 1]
    assert (batch["chosen"].tolist(), batch["rejected"].tolist()) == ([0, 0], [1, 2])


def test_padding_carries_no_attention_and_no_loss(tmp_path: Path) -> None:
    make_base(tmp_path, markers=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    short = encode_example(TrajectoryTokenizer(tokenizer), SftExample("p", "a", ("x",), 1.0))
    long = encode_example(TrajectoryTokenizer(tokenizer), SftExample("p", "abc", ("xyz",), 1.0))
    batch = ExampleCollator(7)([short, long])
    added = len(long.ids) - len(short.ids)
    assert batch["labels"][0, -added:].tolist() == [NO_LOSS] * added
    assert batch["attention_mask"][0].sum().item() == len(short.ids)


LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 7), st.integers(1, 3), st.integers(0, 5))
def test_every_pass_trains_on_every_example_once(lengths: list[int], batch: int, epochs: int, seed: int) -> None:
    order = training_order(lengths, batch, epochs, None, seed)
    assert sorted(order) == sorted(list(range(len(lengths))) * epochs)
    assert order == training_order(lengths, batch, epochs, None, seed)


@given(st.integers(0, 300), st.integers(0, 5))
def test_a_pass_has_the_order_of_pythons_sample(count: int, seed: int) -> None:
    assert list(permutation(count, random.Random(seed))) == random.Random(seed).sample(range(count), count)


@given(LENGTHS, st.integers(1, 7), st.integers(1, 400))
def test_a_token_budget_is_exceeded_by_less_than_one_example(lengths: list[int], batch: int, budget: int) -> None:
    order = training_order(lengths, batch, 1.0, budget, 0)
    tokens = sum(lengths[i] for i in order)
    assert budget <= tokens < budget + max(lengths)
    counts = [order.count(i) for i in range(len(lengths))]
    assert max(counts) - min(counts) <= 1


def test_batches_hold_examples_of_similar_length_in_shuffled_order() -> None:
    lengths = [(7 * i) % 101 for i in range(1000)]
    order = training_order(lengths, 10, 1.0, None, 0)
    batches = [[lengths[i] for i in order[k : k + 10]] for k in range(0, 1000, 10)]
    assert all(max(batch) - min(batch) <= 5 for batch in batches)
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)


@pytest.mark.parametrize("sizes", [{}, {"vocab_size": 300}, {"tie_word_embeddings": True}])
def test_the_embedding_of_a_new_marker_is_the_mean_of_the_tokens_that_spell_it(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    make_base(tmp_path, **sizes)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    pieces = [tokenizer.encode(marker, add_special_tokens=False) for marker in MARKERS]
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    means = [torch.stack([layer.weight[ids].mean(0) for ids in pieces]) for layer in layers]
    assert missing_markers(tokenizer) == list(MARKERS)
    assert marker_ids(tokenizer) == []
    assert add_markers(model, tokenizer) == len(MARKERS)
    ids = marker_ids(tokenizer)
    assert ids == tokenizer.convert_tokens_to_ids(list(MARKERS))
    for layer, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), means, strict=True):
        assert torch.allclose(layer.weight[ids], mean, atol=1e-6)
        assert len(layer.weight[ids].unique(dim=0)) == len(MARKERS), "no two markers begin as one"
    assert tokenizer.decode(tokenizer.encode("a<end_of_step>b", add_special_tokens=False)) == "a<end_of_step>b"
    assert add_markers(model, tokenizer) == 0


@pytest.mark.parametrize(
    ("form", "learning_rate", "examples", "batch_size", "expected"),
    [
        ("auto", 2e-5, 208, 8, False),
        ("auto", 7e-6, 1428 * 128, 128, False),
        ("auto", 7e-6, 1428 * 128 + 1, 128, True),
        ("text", 1.0, 10**6, 1, False),
        ("tokens", 1e-9, 1, 1, True),
    ],
)
def test_markers_become_tokens_where_training_can_move_their_embeddings(
    form: MarkerForm, learning_rate: float, examples: int, batch_size: int, expected: bool
) -> None:
    assert as_tokens(form, learning_rate, examples, batch_size) is expected
    assert LEARNED_SHIFT < 0.02, "the size of an embedding's element"


def test_an_incomplete_checkpoint_is_never_resumed_from(tmp_path: Path) -> None:
    stage = StageRun(FolderStore(tmp_path / "store"), "r1", Stage.TRAIN_POLICY, 0, {})
    resume = ResumeStore(stage)
    assert resume.load(tmp_path / "0") is None
    made = tmp_path / "made"
    made.mkdir()
    for step in (3, 6):
        (made / "weights").write_text(f"step {step}")
        resume.save(made, step)
    loaded = resume.load(tmp_path / "1")
    assert loaded is not None
    assert (loaded.name, (loaded / "weights").read_text()) == ("checkpoint-6", "step 6")
    assert not any("/resume/3/" in key for key in stage.store.list(""))
    stage.store.write(stage.key("resume/6/weights"), b"torn")
    assert resume.load(tmp_path / "2") is None
    resume.clear()
    assert list(stage.store.list("")) == []

"""New prompts are run once each, in few passes, with their common beginnings and little padding."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Sampling, State
from rstar.models.forward_passes import NEW_TOKENS, TEXT_TOKENS, passes, waves
from tests.support.tiny_model import save_policy

EXAMPLES = tuple(range(300))
prompts = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=600).map(tuple), min_size=1, max_size=12, unique=True
)


@settings(deadline=None)
@given(prompts, st.data())
def test_every_text_is_run_once_within_the_limits_of_a_pass(new: list[tuple[int, ...]], data: st.DataObject) -> None:
    cached = [data.draw(st.integers(0, len(text) - 1)) for text in new]
    most_rows = data.draw(st.none() | st.integers(1, 4))
    run = []
    for wave in waves(new, cached):
        lengths = [len(new[i]) for i in wave]
        for places in passes(lengths, [cached[i] for i in wave], most_rows):
            tokens = [lengths[i] - cached[wave[i]] for i in places]
            rows = len(places)
            assert rows == 1 or rows * max(lengths[i] for i in places) <= TEXT_TOKENS
            assert rows == 1 or rows * max(tokens) <= NEW_TOKENS
            assert rows <= (most_rows or rows)
            assert rows * max(tokens) - sum(tokens) <= 256
            run += [wave[i] for i in places]
    assert sorted(run) == list(range(len(new)))


def test_one_of_the_prompts_with_the_same_examples_is_run_first() -> None:
    questions = [(*EXAMPLES, 1_000 + i) for i in range(3)]
    assert waves([*questions, (7, 7)], [0, 0, 0, 0]) == [[0, 3], [1, 2]]


def test_prompts_whose_examples_are_cached_are_run_together() -> None:
    questions = [(*EXAMPLES, 1_000 + i) for i in range(3)]
    assert waves(questions, [300, 300, 300]) == [[0, 1, 2]]


def test_short_common_beginnings_are_not_worth_a_second_pass() -> None:
    questions = [(1, 2, 3, 10 + i) for i in range(5)]
    assert waves(questions, [0] * 5) == [[0, 1, 2, 3, 4]]


def test_a_long_prompt_does_not_pad_the_short_ones() -> None:
    assert list(passes([500, *[301] * 20], [0, *[300] * 20])) == [list(range(1, 21)), [0]]


def test_long_new_texts_are_run_in_several_passes() -> None:
    assert list(passes([2_000] * 5, [0] * 5)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
async def test_a_common_beginning_changes_no_candidate(kind: str, tmp_path: Path) -> None:
    folder = save_policy(kind, tmp_path / kind)
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    states = [State(f"p{i}", "x" * 300 + f" and {i}") for i in range(4)]
    alone = []
    for state in states:
        async with TransformersPolicy.load(folder, threads=1) as policy:
            alone.append(await policy.propose(state, 3, sampling, 7))
    async with TransformersPolicy.load(folder, threads=1) as policy:
        together = await asyncio.gather(*(policy.propose(state, 3, sampling, 7) for state in states))
    assert [[c.text for c in t.candidates] for t in together] == [[c.text for c in a.candidates] for a in alone]

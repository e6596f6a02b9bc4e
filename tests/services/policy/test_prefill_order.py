"""New prompts are run once each, in few passes, with their common beginnings and little padding."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_policy.prefill_order import PREFILL_TOKENS, batches, waves
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Sampling, State
from tests.support.tiny_model import save_policy

EXAMPLES = tuple(range(300))
prompts = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=600).map(tuple), min_size=1, max_size=12, unique=True
)


@settings(deadline=None)
@given(prompts, st.data())
def test_every_prompt_is_run_once_within_the_limits_of_a_pass(new: list[tuple[int, ...]], data: st.DataObject) -> None:
    cached = {prompt: data.draw(st.integers(0, len(prompt) - 1)) for prompt in new}
    run = []
    for wave in waves(new, [cached[prompt] for prompt in new]):
        for batch in batches(wave, [cached[prompt] for prompt in wave]):
            tokens = [len(prompt) - cached[prompt] for prompt in batch]
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= PREFILL_TOKENS
            assert len(batch) * max(tokens) - sum(tokens) <= 256
            run += batch
    assert sorted(run) == sorted(new)


def test_one_of_the_prompts_with_the_same_examples_is_run_first() -> None:
    questions = [(*EXAMPLES, 1_000 + i) for i in range(3)]
    first, then = waves([*questions, (7, 7)], [0, 0, 0, 0])
    assert first == [questions[0], (7, 7)]
    assert then == questions[1:]


def test_prompts_whose_examples_are_cached_are_run_together() -> None:
    questions = [(*EXAMPLES, 1_000 + i) for i in range(3)]
    assert waves(questions, [300, 300, 300]) == [questions]


def test_short_common_beginnings_are_not_worth_a_second_pass() -> None:
    questions = [(1, 2, 3, 10 + i) for i in range(5)]
    assert waves(questions, [0] * 5) == [questions]


def test_a_long_prompt_does_not_pad_the_short_ones() -> None:
    short = [(*EXAMPLES, i) for i in range(20)]
    long = tuple(range(400, 900))
    assert list(batches([long, *short], [0, *[300] * 20])) == [short, [long]]


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

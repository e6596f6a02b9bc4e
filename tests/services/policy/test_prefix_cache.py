"""The prefix cache finds the longest cached prefix, and does not change the candidates."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rstar_policy.decoder import _columns_without_gap, _rearranged
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Sampling, State
from rstar.models.prefix_cache import NOTHING, PrefixCache, stacked
from tests.support.tiny_model import save_policy

prompts = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


def put(cache: PrefixCache, text: tuple[int, ...]) -> None:
    """Add ``text`` with a key and a value per token that tell its first tokens up to that one."""
    own = [float(hash(text[: i + 1])) for i in range(len(text))]

    def layers(since: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        keys = torch.tensor(own[since:], dtype=torch.float64).reshape(1, -1, 1)
        return [keys], [-keys]

    cache.put(text, layers)


def found(cache: PrefixCache, text: tuple[int, ...]) -> int:
    """Return the length of the longest cached prefix, after a check that its keys and values are those of ``text``."""
    prefix = cache.longest(text)
    if prefix.length:
        keys, values = stacked([prefix, NOTHING], 0, prefix.length + 1)
        assert keys[0, 0, :, 0].tolist() == [0.0] + [float(hash(text[: i + 1])) for i in range(prefix.length)]
        assert torch.equal(values, -keys)
        assert not keys[1].any()
    return prefix.length


@given(st.lists(prompts, max_size=20), prompts)
def test_the_longest_cached_prefix_is_found_and_leaves_one_token(known: list[tuple[int, ...]], asked: tuple) -> None:
    cache = PrefixCache(1 << 20)
    for prompt in known:
        put(cache, prompt)
    best = max((n for n in range(1, len(asked) + 1) for p in known if asked[:n] == p[:n]), default=0)
    assert found(cache, asked) == min(best, len(asked) - 1)


@given(st.lists(prompts, max_size=30), st.integers(0, 12))
def test_shared_tokens_are_kept_once_within_the_budget(texts: list[tuple[int, ...]], tokens: int) -> None:
    cache = PrefixCache(tokens * 2 * 8)
    for text in texts:
        put(cache, text)
        assert cache.bytes <= tokens * 2 * 8
        for other in texts:
            found(cache, other)
    unlimited = PrefixCache(1 << 20)
    for text in texts:
        put(unlimited, text)
    assert unlimited.bytes == 2 * 8 * len({text[: i + 1] for text in texts for i in range(len(text))})


def test_the_least_recently_used_prompts_are_dropped_when_the_budget_is_exceeded() -> None:
    cache = PrefixCache(3 * 2 * 8 * 2)  # three prompts of two tokens: keys and values of eight bytes
    for token in range(3):
        put(cache, (token, 0))
    cache.longest((0, 0, 0))
    put(cache, (3, 0))
    assert cache.longest((1, 0, 0)) == NOTHING
    assert [found(cache, (token, 0, 0)) for token in (0, 2, 3)] == [2, 2, 2]


def test_a_dropped_text_leaves_what_others_share_with_it() -> None:
    cache = PrefixCache(7 * 2 * 8)
    for text in ((1, 2, 3), (1, 2, 3, 4), (5, 6)):
        put(cache, text)
    cache.longest((1, 2, 3, 4, 5))
    put(cache, (7, 8))  # drops (1, 2, 3), which frees nothing, and (5, 6)
    assert [found(cache, text) for text in ((1, 2, 3, 4, 5), (5, 6, 0), (7, 8, 0))] == [4, 0, 2]


def test_the_gap_between_prefix_and_new_tokens_is_removed() -> None:
    # Two rows: prefixes of 3 and 1, new tokens 1 and 2; columns 0-2 are the prefix's, 3-4 the new ones'.
    columns = torch.from_numpy(_columns_without_gap(np.array([3, 1]), np.array([1, 2])))
    laid_out = torch.tensor([[10, 11, 12, -1, 13], [-1, -1, 20, 21, 22]]).reshape(2, 1, 5, 1)
    closed = _rearranged(laid_out, columns).reshape(2, 5)
    assert closed[0, -4:].tolist() == [10, 11, 12, 13]
    assert closed[1, -3:].tolist() == [20, 21, 22]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
async def test_an_engine_with_cached_prefixes_gives_the_candidates_of_a_new_one(kind: str, tmp_path: Path) -> None:
    folder = save_policy(kind, tmp_path / kind)
    sampling = Sampling(temperature=1.0, max_new_tokens=6)
    steps = ("<code>\nx = 1\n<end_of_step>", "\ny = x\n<end_of_step>", "\nz = y + 1\n<end_of_step>")
    asked = [State(f"p{q}", f"question {'?' * q}", steps[:depth]) for q in range(3) for depth in (0, 1, 2, 3, 1)]
    fresh = []
    for state in asked:
        async with TransformersPolicy.load(folder, threads=1) as policy:
            fresh.append(await policy.propose(state, 3, sampling, 7))
    async with TransformersPolicy.load(folder, threads=1) as policy:
        one_by_one = [await policy.propose(state, 3, sampling, 7) for state in asked]
        together = await asyncio.gather(*(policy.propose(state, 3, sampling, 7) for state in asked))
    for answers in (one_by_one, together):
        assert [[c.text for c in a.candidates] for a in answers] == [[c.text for c in a.candidates] for a in fresh]
        for warm, cold in zip(answers, fresh, strict=True):
            assert [c.logprob for c in warm.candidates] == pytest.approx([c.logprob for c in cold.candidates], abs=1e-3)


async def test_the_prompt_of_a_child_runs_nothing_of_a_step_that_was_generated_here(tmp_path: Path) -> None:
    folder = save_policy("llama", tmp_path / "llama")
    stops = tuple("abcdefghijklmnopqrstuvwxyz")
    widths: list[int] = []
    async with TransformersPolicy.load(folder, threads=1) as policy:
        policy._decoder._model.register_forward_pre_hook(
            lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
        )
        sampling = Sampling(temperature=1.0, max_new_tokens=40, stop=stops)
        steps = (await policy.propose(State("p", "a question"), 64, sampling, 7)).candidates
        # A byte that is no UTF-8 becomes another character, and a step of one token has no keys and values yet.
        chosen = next(step for step in steps if step.tokens > 3 and step.text.isascii() and step.text[-1] in stops)
        widths.clear()
        await policy.propose(State("p", "a question", (chosen.text,)), 1, Sampling(max_new_tokens=1), 7)
    assert widths == [1]

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
from rstar_policy.prefix_cache import NOTHING, PrefixCache
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Sampling, State
from tests.support.tiny_model import save_policy

prompts = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


def tensors(length: int) -> tuple[torch.Tensor, ...]:
    return (torch.arange(length, dtype=torch.float32).reshape(1, length, 1),)


@given(st.lists(prompts, max_size=20), prompts)
def test_the_longest_cached_prefix_is_found_and_leaves_one_token(known: list[tuple[int, ...]], asked: tuple) -> None:
    cache = PrefixCache(1 << 20)
    for prompt in known:
        cache.put(prompt, tensors(len(prompt)), tensors(len(prompt)))
    best = max((n for n in range(1, len(asked) + 1) for p in known if asked[:n] == p[:n]), default=0)
    found = cache.longest(asked)
    assert found.length == min(best, len(asked) - 1)
    assert all(tensor.shape[1] == found.length for tensor in found.keys)


def test_the_least_recently_used_prompts_are_dropped_when_the_budget_is_exceeded() -> None:
    cache = PrefixCache(3 * 2 * 4 * 2)  # three prompts of two tokens: keys and values of four bytes
    for token in range(3):
        cache.put((token, 0), tensors(2), tensors(2))
    cache.longest((0, 0, 0))
    cache.put((3, 0), tensors(2), tensors(2))
    assert cache.longest((1, 0, 0)) == NOTHING
    assert [cache.longest((token, 0, 0)).length for token in (0, 2, 3)] == [2, 2, 2]


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

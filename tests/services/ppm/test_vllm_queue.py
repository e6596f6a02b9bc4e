"""The queue of the PPM in front of vLLM, with a stand-in for vLLM, which most machines lack (tests/vllm has the real one)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from prometheus_client import REGISTRY
from rstar_ppm import vllm_ppm
from rstar_ppm.conventions import rstar
from rstar_ppm.vllm_ppm import ADMITTED_ROWS, VllmPreferenceModel
from transformers import AutoTokenizer

from rstar.interfaces import State
from rstar.models.encoding import TrajectoryTokenizer
from tests.support.tiny_model import until

ROWS = 2
STATE = State("p", "1 + 1?")


def queued(unit: str) -> float | None:
    return REGISTRY.get_sample_value(f"rstar_ppm_queued_{unit}")


async def test_texts_beyond_those_that_vllm_gets_are_counted_until_it_gets_them(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, given = asyncio.Event(), []

    async def last_output(prompt: Any) -> Any:
        given.append(prompt)
        await answer.wait()
        return SimpleNamespace(outputs=SimpleNamespace(data=torch.zeros(1)))

    stand_in = ModuleType("vllm")
    stand_in.PoolingParams = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    monkeypatch.setattr(vllm_ppm, "last_output", last_output)
    llm = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=512), encode=lambda prompt, *_: prompt["prompt_token_ids"]
    )
    encoder = rstar(TrajectoryTokenizer(AutoTokenizer.from_pretrained(checkpoint)), "trained")
    ppm = VllmPreferenceModel(llm, encoder, "digest", ROWS)
    tokens = len(encoder.encoded(STATE.question, ()).ids) + len(encoder.step("a", 1))
    first, late = asyncio.Event(), asyncio.Event()
    calls = [asyncio.ensure_future(ppm.score(STATE, ["a"] * ROWS * ADMITTED_ROWS, first))]
    await until(first.is_set)
    assert queued("tokens") == 0
    calls += [asyncio.ensure_future(ppm.score(STATE, ["a"] * 3, late)), asyncio.ensure_future(ppm.score(STATE, ["a"]))]
    await until(lambda: queued("tokens") == 4 * tokens)
    assert (queued("candidates"), len(given), late.is_set()) == (4, ROWS * ADMITTED_ROWS, False)
    calls.pop().cancel()
    await until(lambda: queued("tokens") == 3 * tokens)
    answer.set()
    assert [len(scores.values) for scores in await asyncio.gather(*calls)] == [4, 3]
    assert late.is_set()
    assert (queued("tokens"), queued("candidates")) == (0, 0)

"""The engines of the policy and the PPM on the GPU: the results of the CPU in float32, and the speed in bfloat16."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_ppm.transformers_ppm import TransformersPreferenceModel

from benchmarks.gpu_check.models import SHARP, SMALL, policy_folder, ppm_folder, real_sizes, search_states
from benchmarks.gpu_check.runner import Figures, Setting
from rstar.interfaces import Candidate, Sampling, State
from rstar.trajectory import END_OF_STEP, STEP_STOPS

SHARP_SMALL = {**SMALL, "initializer_range": SHARP}


def arithmetic(setting: Setting) -> Figures:
    """Multiply two bfloat16 matrices; compare with float32."""
    size, times = (256, 2) if setting.quick else (8_192, 20)
    torch.manual_seed(0)
    a, b = (torch.randn(size, size, device=setting.device) for _ in range(2))
    exact, half = a @ b, (a.bfloat16(), b.bfloat16())
    error = float((half[0] @ half[1] - exact).norm() / exact.norm())
    if not error < 0.02:
        raise AssertionError(f"the product in bfloat16 differs from that in float32 by {error:.3g} of its norm")
    _synchronise(setting)
    began = time.perf_counter()
    for _ in range(times):
        product = half[0] @ half[1]
    _synchronise(setting)
    seconds = time.perf_counter() - began
    name = torch.cuda.get_device_name() if setting.device == "cuda" else "CPU"
    figures = {"tflops": 2 * size**3 * times / seconds / 1e12, "difference": error}
    del product
    return {"device": name, "torch": torch.__version__, **figures}


def policy_float32(setting: Setting) -> Figures:
    """Generate greedily on the device and on the CPU, and compare texts and log-probabilities."""
    folder = policy_folder(setting, "policy-sharp", SHARP_SMALL)
    states = [state for steps in range(3) for state in search_states(4 if setting.quick else 16, steps)]
    sampling = Sampling(temperature=0.0, max_new_tokens=16 if setting.quick else 48, stop=STEP_STOPS)
    ours, theirs = (
        asyncio.run(_proposed(folder, states, 1, sampling, device, "float32"))[0] for device in (setting.device, "cpu")
    )
    equal = [a.text == b.text for a, b in zip(ours, theirs, strict=True)]
    share = sum(equal) / len(equal)
    if share < 0.95:
        first = equal.index(False)
        raise AssertionError(
            f"{share:.0%} of the texts are those of the CPU; the first other one: {ours[first].text!r} instead of "
            f"{theirs[first].text!r}"
        )
    difference = max(
        abs(a.logprob - b.logprob) / b.tokens for a, b, same in zip(ours, theirs, equal, strict=True) if same
    )
    if difference > 1e-3:
        raise AssertionError(f"log-probabilities per token differ from the CPU's by up to {difference:.2g}")
    return {"texts": len(states), "equal_share": share, "logprob_difference": difference}


def policy_bfloat16(setting: Setting) -> Figures:
    """Generate at the load of a search; compare the log-probability of a token with that in float32."""
    folder = policy_folder(setting, "policy-real", real_sizes(setting))
    states = search_states(4 if setting.quick else 64, 3)
    one = Sampling(temperature=0.0, max_new_tokens=1)
    half, exact = (
        asyncio.run(_proposed(folder, states[:4], 1, one, setting.device, dtype))[0]
        for dtype in ("bfloat16", "float32")
    )
    difference = max(abs(a.logprob - b.logprob) for a, b in zip(half, exact, strict=True))
    if not difference < 0.25:
        raise AssertionError(f"the log-probability of a token differs from float32 by {difference:.3g}")
    n, tokens = (2, 8) if setting.quick else (16, 128)
    sampling = Sampling(temperature=1.0, max_new_tokens=tokens, stop=STEP_STOPS)
    candidates, seconds = asyncio.run(_proposed(folder, states, n, sampling, setting.device, "bfloat16"))
    generated = sum(candidate.tokens for candidate in candidates)
    return {"tokens_per_s": generated / seconds, "candidates": len(candidates), "logprob_difference": difference}


async def _proposed(
    folder: Path, states: Sequence[State], n: int, sampling: Sampling, device: str, dtype: str
) -> tuple[list[Candidate], float]:
    """Return all candidates, ``n`` per state with all states at once, and the seconds without loading."""
    async with TransformersPolicy.load(folder, device=device, dtype=dtype) as policy:
        await policy.propose(states[0], 1, Sampling(max_new_tokens=2), 0)
        began = time.perf_counter()
        proposals = await asyncio.gather(*(policy.propose(state, n, sampling, i) for i, state in enumerate(states)))
        seconds = time.perf_counter() - began
    return [candidate for proposal in proposals for candidate in proposal.candidates], seconds


def ppm_float32(setting: Setting) -> Figures:
    """Score on the device and on the CPU."""
    folder = ppm_folder(setting, "ppm-sharp", SHARP_SMALL)
    states = [state for steps in range(3) for state in search_states(4 if setting.quick else 16, steps)]
    ours, theirs = (asyncio.run(_scored(folder, states, 8, device, "float32"))[0] for device in (setting.device, "cpu"))
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if difference > 1e-3:
        raise AssertionError(f"scores differ from the CPU's by up to {difference:.2g}")
    return {"scores": len(ours), "difference": difference}


def ppm_bfloat16(setting: Setting) -> Figures:
    """Score at the load of a search; compare with float32."""
    folder = ppm_folder(setting, "ppm-real", real_sizes(setting))
    states = search_states(4 if setting.quick else 256, 3)
    exact, _ = asyncio.run(_scored(folder, states[:4], 16, setting.device, "float32"))
    half, seconds = asyncio.run(_scored(folder, states, 16, setting.device, "bfloat16"))
    difference = max(abs(a - b) for a, b in zip(half, exact, strict=False))
    if difference > 0.1:
        raise AssertionError(f"scores in bfloat16 differ from float32 by up to {difference:.2g}")
    return {"scores_per_s": len(half) / seconds, "scores": len(half), "difference": difference}


async def _scored(folder: Path, states: Sequence[State], n: int, device: str, dtype: str) -> tuple[list[float], float]:
    """Return the scores of ``n`` candidates per state, with all states at once, and the seconds without loading."""
    candidates = [f"\nz = x + {k}\nprint(z){END_OF_STEP}" for k in range(n)]
    async with TransformersPreferenceModel.load(folder, device=device, dtype=dtype) as ppm:
        await ppm.score(states[0], candidates[:1])
        began = time.perf_counter()
        scores = await asyncio.gather(*(ppm.score(state, candidates) for state in states))
        seconds = time.perf_counter() - began
    return [value for some in scores for value in some.values], seconds


def _synchronise(setting: Setting) -> None:
    if setting.device == "cuda":
        torch.cuda.synchronize()

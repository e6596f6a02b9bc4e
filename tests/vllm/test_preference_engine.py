"""The PPM on vLLM: the scores of transformers, for many candidates of one prefix and many callers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from rstar_ppm.vllm_ppm import VllmPreferenceModel

from rstar.interfaces import State
from tests.vllm.test_policy_engine import states

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANDIDATES = [
    "",
    "\nx = 1\n<end_of_step>",
    "\nprint(2)\n<end_of_code>\n<output>2<end_of_output>\n",
    "a" * 40,
    "b" * 200,
]


async def test_both_engines_give_the_same_scores(ppm: VllmPreferenceModel, ppm_folder: Path) -> None:
    asked = states(20)
    async with TransformersPreferenceModel.load(ppm_folder, threads=1) as reference:
        ours = await asyncio.gather(*(ppm.score(state, CANDIDATES) for state in asked))
        for state, scores in zip(asked, ours, strict=True):
            theirs = await reference.score(state, CANDIDATES)
            assert scores.values == pytest.approx(theirs.values, abs=1e-5), state
            assert scores.model_digest == theirs.model_digest
    assert len({value for scores in ours for value in scores.values}) > 20, "the scores do not differ"


async def test_every_step_of_a_trajectory_is_scored_in_one_pass(ppm: VllmPreferenceModel, ppm_folder: Path) -> None:
    asked = [State("p", state.question, (*state.steps, *CANDIDATES[1:3])) for state in states(6)]
    async with TransformersPreferenceModel.load(ppm_folder, threads=1) as reference:
        ours = await asyncio.gather(*(ppm.score_steps(state) for state in asked), ppm.score(asked[0], CANDIDATES))
        for state, scores in zip(asked, ours, strict=False):
            assert scores.values == pytest.approx((await reference.score_steps(state)).values, abs=1e-5), state
            assert len(scores.values) == len(state.steps)
    assert (await ppm.score_steps(State("p", "1?"))).values == ()


async def test_no_candidates_give_no_scores(ppm: VllmPreferenceModel) -> None:
    assert (await ppm.score(State("p", "1?"), [])).values == ()


async def test_a_text_longer_than_the_context_is_refused_and_costs_no_other_call(ppm: VllmPreferenceModel) -> None:
    with pytest.raises(ValueError, match=r"prefix and candidate have .* tokens and the model's context is 512"):
        await ppm.score(State("p", "1?"), ["x" * 600, "y"])
    assert len((await ppm.score(State("p", "1?"), ["y"])).values) == 1

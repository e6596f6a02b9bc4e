"""The PPM: packing and shared batches change no score, and calls fail independently."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rstar_ppm.heads import Loading, load_scoring_model
from rstar_ppm.packing import Row, pack, rows_of, tree_mask
from rstar_ppm.scorer import Scorer
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rstar.interfaces import PreferenceModel, State
from rstar.models.encoding import TrajectoryTokenizer
from rstar.store.digests import checkpoint_digest
from tests.support.tiny_model import save_policy

CANDIDATES = ("\nx = 1\n<end_of_step>", "\ny<end_of_step>", "", "\nprint(12)\n<end_of_code>", "\ny<end_of_step>")
STATES = [State("p", "q" * length, ("<code>\n# Step 1\n<end_of_step>",) * (length % 3)) for length in (1, 12, 40)]


def plain(checkpoint: Path, state: State, candidate: str) -> float:
    """Return the score by transformers' own forward pass of one sequence."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    ids = TrajectoryTokenizer(tokenizer).state(state.question, (*state.steps, candidate))
    with torch.inference_mode():
        return float(torch.tanh(model(torch.tensor([ids])).logits[0, 0]))


async def test_packed_scores_equal_plain_ones(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        assert isinstance(ppm, PreferenceModel)
        all_scores = await asyncio.gather(*(ppm.score(state, CANDIDATES) for state in STATES))
    for state, scores in zip(STATES, all_scores, strict=True):
        for candidate, score in zip(CANDIDATES, scores.values, strict=True):
            assert score == pytest.approx(plain(checkpoint, state, candidate), abs=1e-5)
        assert scores.model_digest == checkpoint_digest(checkpoint)


STEPS = ("<code>\nx = 1\n<end_of_step>", "\ny = 2<end_of_step>", "", "\nprint(x)\n<end_of_code>")


@pytest.mark.parametrize("packed", [True, False])
async def test_every_step_of_a_trajectory_is_scored_in_one_row_as_it_is_alone(checkpoint: Path, packed: bool) -> None:
    whole = State("p", "1 + 1?", STEPS)
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        ppm._scorer._packed = packed
        together, _ = await asyncio.gather(ppm.score_steps(whole), ppm.score(whole, CANDIDATES))
        alone = [await ppm.score(replace(whole, steps=STEPS[:i]), [step]) for i, step in enumerate(STEPS)]
        assert together.values == pytest.approx([value for scores in alone for value in scores.values], abs=1e-5)
        assert len(set(together.values)) == len({value for scores in alone for value in scores.values}) > 2
        assert (await ppm.score_steps(State("p", "1 + 1?"))).values == ()
        with pytest.raises(ValueError, match="the model's context is"):
            await ppm.score_steps(State("p", "x" * 600, STEPS))


async def test_a_score_does_not_depend_on_the_rest_of_the_batch(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint, max_rows=4) as ppm:
        alone = await ppm.score(STATES[1], CANDIDATES[:1])
        together = await asyncio.gather(
            *(ppm.score(STATES[i % 3], CANDIDATES[: 1 + i % 5]) for i in range(30)), ppm.score(STATES[1], CANDIDATES)
        )
    assert together[-1].values[0] == pytest.approx(alone.values[0], abs=1e-5)
    assert together[-1].values[1] == pytest.approx(together[-1].values[4], abs=1e-5)
    assert all(-1 <= value <= 1 and value == round(value, 6) for scores in together for value in scores.values)


def test_an_architecture_that_cannot_be_packed_is_scored_one_by_one(checkpoint: Path) -> None:
    model = load_scoring_model("rstar", Loading(checkpoint, "cpu", "float32", None))
    rows = [Row((1, 2, 3), ((4, 5), (6,)), (0, 1)), Row((7,), ((8, 9, 10),), (2,))]
    packed = Scorer(model)
    assert packed.packed
    expected = packed.score(rows)
    # Without explicit positions, all candidates after the first get wrong ones.
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {k: v for k, v in kwargs.items() if k != "position_ids"}), with_kwargs=True
    )
    fallback = Scorer(model)
    assert not fallback.packed
    assert fallback.score(rows) == pytest.approx(expected, abs=1e-5)


async def test_a_text_longer_than_the_context_is_refused_and_other_calls_are_answered(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        good, bad = await asyncio.gather(
            ppm.score(STATES[0], CANDIDATES), ppm.score(STATES[0], ["x" * 600]), return_exceptions=True
        )
        assert not isinstance(good, BaseException)
        assert isinstance(bad, ValueError)
        assert "the model's context is 512" in str(bad)


async def test_no_candidates_have_no_scores(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        assert (await ppm.score(STATES[0], [])).values == ()


async def test_a_cancelled_call_fails_no_other(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        calls = [asyncio.ensure_future(ppm.score(STATES[i % 3], CANDIDATES)) for i in range(20)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert not any(isinstance(result, BaseException) for result in results[1::2])


async def test_a_closed_model_refuses_calls(checkpoint: Path) -> None:
    ppm = TransformersPreferenceModel.load(checkpoint)
    await ppm.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ppm.score(STATES[0], CANDIDATES)


def test_a_model_without_one_scalar_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_labels=1"):
        TransformersPreferenceModel.load(save_policy("llama", tmp_path))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=300),
    st.lists(st.lists(st.integers(1, 9), max_size=200), max_size=12),
)
def test_rows_hold_each_candidate_once_and_in_order(prefix: list[int], candidates: list[list[int]]) -> None:
    rows = list(rows_of(prefix, candidates, 5))
    assert [slot for row in rows for slot in row.slots] == list(range(5, 5 + len(candidates)))
    assert [list(candidate) for row in rows for candidate in row.candidates] == candidates


def test_each_candidate_attends_only_to_the_prefix_and_itself() -> None:
    packed = pack([Row((1, 2), ((3, 4), (5,)), (0, 1)), Row((6,), ((7,),), (2,))], (0, 0))
    seen = tree_mask(packed.segment, packed.past, torch.float32)[:, 0] == 0
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert list(zip(packed.row.tolist(), packed.column.tolist(), strict=True)) == [(0, 3), (0, 4), (1, 1)]


def test_cached_tokens_are_not_run_and_every_token_attends_to_them() -> None:
    packed = pack([Row((1, 2, 8), ((3, 4), (5,)), (0, 1)), Row((6,), ((),), (2,))], (2, 0))
    seen = tree_mask(packed.segment, packed.past, torch.float32)[:, 0] == 0
    assert packed.ids.tolist() == [[8, 3, 4, 5], [6, 0, 0, 0]]
    assert packed.positions.tolist() == [[2, 3, 4, 3], [0, 0, 0, 0]]
    assert seen[0].int().tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1]]
    assert seen[1, 0].int().tolist() == [0, 0, 1, 0, 0, 0]
    assert list(zip(packed.row.tolist(), packed.column.tolist(), strict=True)) == [(0, 2), (0, 3), (1, 0)]


@pytest.mark.parametrize("share", [0.0, 0.1])
async def test_scores_after_cached_prefixes_are_those_of_a_new_model(checkpoint: Path, share: float) -> None:
    trajectory = State("p", "1 + 1?", STEPS)
    states = [replace(trajectory, steps=STEPS[:depth]) for depth in (0, 1, 2, 3, 4, 2, 0)]
    expected = [[plain(checkpoint, state, candidate) for candidate in (*CANDIDATES, *STEPS)] for state in states]
    async with TransformersPreferenceModel.load(checkpoint, prefix_share=share) as ppm:
        one_by_one = [await ppm.score(state, (*CANDIDATES, *STEPS)) for state in states]
        together = await asyncio.gather(*(ppm.score(state, (*CANDIDATES, *STEPS)) for state in states))
        steps = await ppm.score_steps(trajectory)
    for scores in (one_by_one, together):
        assert [list(of.values) for of in scores] == [pytest.approx(of, abs=1e-5) for of in expected]
    alone = [plain(checkpoint, replace(trajectory, steps=STEPS[:i]), step) for i, step in enumerate(STEPS)]
    assert list(steps.values) == pytest.approx(alone, abs=1e-5)


async def test_a_child_of_a_scored_step_runs_only_its_own_candidates(checkpoint: Path) -> None:
    ran: list[int] = []
    async with TransformersPreferenceModel.load(checkpoint, prefix_share=0.1) as ppm:
        ppm._scorer._model.register_forward_pre_hook(
            lambda _, __, given: ran.append(given["input_ids"].numel()), with_kwargs=True
        )
        await ppm.score(STATES[0], CANDIDATES)
        child = replace(STATES[0], steps=(*STATES[0].steps, CANDIDATES[0]))
        for _ in range(2):
            ran.clear()
            await ppm.score(child, CANDIDATES)
            assert ran == [1 + sum(len(ppm._encoder.step(text, 2)) for text in CANDIDATES)]


async def test_a_question_that_trajectories_share_is_run_once(checkpoint: Path) -> None:
    ran: list[int] = []
    trajectories = [State("p", "q" * 200, (f"x = {i}<end_of_step>",)) for i in range(4)]
    async with TransformersPreferenceModel.load(checkpoint, prefix_share=0.1) as ppm:
        ppm._scorer._model.register_forward_pre_hook(
            lambda _, __, given: ran.append(given["input_ids"].numel()), with_kwargs=True
        )
        whole = [ppm._encoded(trajectory, None)[0] for trajectory in trajectories]
        found = await asyncio.gather(*(ppm.score_steps(trajectory) for trajectory in trajectories))
    assert sum(ran) < len(whole[0].ids) + 3 * 50
    for trajectory, scores in zip(trajectories, found, strict=True):
        expected = plain(checkpoint, replace(trajectory, steps=()), trajectory.steps[0])
        assert list(scores.values) == pytest.approx([expected], abs=1e-5)


async def test_a_call_is_answered_before_later_passes(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    score = Scorer.score
    passes = 0

    def second_waits(scorer: Scorer, rows: Sequence[Row]) -> dict[int, float]:
        nonlocal passes
        passes += 1
        if passes == 2:
            assert answered.wait(60)
        return score(scorer, rows)

    monkeypatch.setattr(Scorer, "score", second_waits)
    async with TransformersPreferenceModel.load(checkpoint, max_rows=1) as ppm:
        calls = [asyncio.ensure_future(ppm.score(state, CANDIDATES)) for state in STATES[:2]]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        answered.set()
        assert all(len(scores.values) == len(CANDIDATES) for scores in await asyncio.gather(*calls))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_no_memory_is_refused(checkpoint: Path, share: float) -> None:
    with pytest.raises(ValueError, match="prefix_share is"):
        TransformersPreferenceModel.load(checkpoint, prefix_share=share)


async def test_a_small_cache_drops_prefixes_and_changes_no_score(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rstar_ppm.transformers_ppm.free_bytes", lambda device: 200_000)
    async with TransformersPreferenceModel.load(checkpoint, prefix_share=0.2) as ppm:
        found = await asyncio.gather(*(ppm.score(state, CANDIDATES) for state in STATES * 3))
        assert ppm._scorer._prefixes.bytes <= 40_000
    for state, scores in zip(STATES * 3, found, strict=True):
        expected = [plain(checkpoint, state, candidate) for candidate in CANDIDATES]
        assert list(scores.values) == pytest.approx(expected, abs=1e-5)

"""The policy on vLLM: the same trajectories as on transformers, seeds, stops, cancellation, and requests of every size."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_policy.vllm_engine import VllmPolicy

from rstar.interfaces import Finish, Sampling, State
from rstar.trajectory import END_OF_STEP, STEP_STOPS
from tests.support.tiny_model import until
from tests.vllm.conftest import ROWS

pytestmark = pytest.mark.asyncio(loop_scope="session")

GREEDY = Sampling(0.0, 1.0, 24, STEP_STOPS)
RANDOM = Sampling(1.0, 1.0, 24, STEP_STOPS)


def states(count: int) -> list[State]:
    """Return states of different lengths, some with steps."""
    draw = random.Random(0)
    questions = ["".join(draw.choices("abc 123+*=?", k=draw.randint(1, 60))) for _ in range(count)]
    steps = ((), ("<code>\nx = 1\n<end_of_step>",), ("<code>\nx = 1\n<end_of_step>", "\ny = x\n<end_of_step>"))
    return [State(f"p{i}", question, steps[i % 3]) for i, question in enumerate(questions)]


async def test_both_engines_write_the_same_greedy_steps_for_100_prompts(
    policy: VllmPolicy, policy_folder: Path
) -> None:
    async with TransformersPolicy.load(policy_folder, threads=1) as reference:
        for state in states(100):
            ours = (await policy.propose(state, 1, GREEDY, 0)).candidates[0]
            theirs = (await reference.propose(state, 1, GREEDY, 0)).candidates[0]
            assert (ours.text, ours.tokens, ours.finish) == (theirs.text, theirs.tokens, theirs.finish), state
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3), state
        assert policy.digest == reference.digest


async def test_a_candidate_depends_on_its_number_and_not_on_the_others(policy: VllmPolicy) -> None:
    state = State("p", "1 + 1?")
    together = (await policy.propose(state, 6, RANDOM, 2**64 - 1)).candidates
    alone = await asyncio.gather(*(policy.propose(state, k + 1, RANDOM, 2**64 - 1) for k in range(6)))
    assert [proposal.candidates[k].text for k, proposal in enumerate(alone)] == [c.text for c in together]
    assert len({candidate.text for candidate in together}) > 1
    other = (await policy.propose(state, 6, RANDOM, 1)).candidates
    assert [c.text for c in other] != [c.text for c in together]


async def test_more_candidates_than_rows_are_generated_in_parts(policy: VllmPolicy) -> None:
    state, short = State("p", "2 + 2?"), Sampling(1.0, 1.0, 4, STEP_STOPS)
    many = (await policy.propose(state, 2 * ROWS + 3, short, 5)).candidates
    few = (await policy.propose(state, 3, short, 5)).candidates
    assert len(many) == 2 * ROWS + 3
    assert [c.text for c in many[:3]] == [c.text for c in few]
    assert len({c.text for c in many}) > ROWS, "the parts repeat each other's candidates"


async def test_greedy_candidates_are_all_the_same(policy: VllmPolicy) -> None:
    first, *others = (await policy.propose(State("p", "3?"), ROWS + 4, GREEDY, 0)).candidates
    assert others == [first] * (ROWS + 3)


async def test_a_stop_is_the_end_of_the_text_as_a_token_and_as_letters(policy: VllmPolicy) -> None:
    state = State("p", "1 + 1?")
    marked = (await policy.propose(state, 200, Sampling(1.0, 1.0, 60, (END_OF_STEP,)), 3)).candidates
    stopped = [c for c in marked if c.finish is Finish.STOP]
    assert stopped
    assert all(c.text.endswith(END_OF_STEP) and c.text.count(END_OF_STEP) == 1 for c in stopped)
    lettered = (await policy.propose(state, 200, Sampling(1.0, 1.0, 60, ("a", "7")), 3)).candidates
    stopped = [c for c in lettered if c.finish is Finish.STOP]
    assert stopped
    assert all(c.text.endswith(("a", "7")) for c in stopped)
    ended = [c for c in (*marked, *lettered) if c.finish is Finish.EOS]
    assert ended, "no candidate in 400 ended by itself: the test shows nothing"
    assert not any("<|endoftext|>" in c.text for c in ended)


async def test_a_cancelled_call_frees_its_requests(policy: VllmPolicy) -> None:
    endless = Sampling(0.7, 1.0, 400, ())
    calls = [asyncio.ensure_future(policy.propose(State(str(i), "go"), 8, endless, i)) for i in range(6)]
    await until(lambda: policy.candidates > 0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert policy.candidates == 0
    await until(lambda: not policy._llm.get_num_unfinished_requests())
    assert (await policy.propose(State("p", "1?"), 2, RANDOM, 0)).candidates


async def test_a_call_begins_when_it_leaves_the_queue(policy: VllmPolicy) -> None:
    endless, begun = Sampling(0.7, 1.0, 400, ()), asyncio.Event()
    holding = [asyncio.ensure_future(policy.propose(State(str(i), "hold"), ROWS, endless, i)) for i in range(2)]
    await until(lambda: policy.candidates == 2 * ROWS)
    waiting = asyncio.ensure_future(policy.propose(State("p", "wait"), ROWS, GREEDY, 0, begun))
    sampled = asyncio.ensure_future(policy.propose(State("p", "wait"), ROWS, RANDOM, 0, begun))
    await asyncio.sleep(0.05)
    assert not begun.is_set()
    for call in (*holding, waiting):
        call.cancel()
    await sampled
    assert begun.is_set()


async def test_prompts_of_many_tokens_at_once_do_not_end_the_engine(policy: VllmPolicy) -> None:
    prompts = [State(str(i), "7" * 400 + str(i)) for i in range(40)]
    proposals = await asyncio.gather(
        *(policy.propose(s, 2, Sampling(1.0, 1.0, 4, ()), i) for i, s in enumerate(prompts))
    )
    assert all(len(proposal.candidates) == 2 for proposal in proposals)


async def test_a_child_finds_its_parents_prompt_in_the_prefix_cache(policy: VllmPolicy) -> None:
    def cached() -> float:
        return REGISTRY.get_sample_value("rstar_policy_cached_prompt_tokens_total") or 0.0

    step = "<code>\n" + "x = 1\n" * 10 + END_OF_STEP
    await policy.propose(State("q", "a question that is asked twice " * 4, (step,)), 1, GREEDY, 0)
    before = cached()
    await policy.propose(
        State("q", "a question that is asked twice " * 4, (step, "\ny = 2\n<end_of_step>")), 1, GREEDY, 0
    )
    assert cached() - before >= 64


async def test_a_prompt_longer_than_the_context_is_refused_with_one_sentence(policy: VllmPolicy) -> None:
    with pytest.raises(ValueError, match=r"the prompt has .* tokens and the model's context is 512"):
        await policy.propose(State("p", "x" * 3_000), 1, GREEDY, 0)

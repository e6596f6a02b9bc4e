"""The engine: candidates are reproducible, sharing rows and batches changes no result, calls fail independently."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.transformers_engine import TransformersPolicy
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from rstar.interfaces import Candidate, Finish, Policy, Sampling, State
from rstar.models.encoding import TrajectoryTokenizer
from rstar.prompt import render
from rstar.store.digests import checkpoint_digest
from rstar.trajectory import END_OF_STEP, STEP_STOPS
from tests.support.tiny_model import byte_tokenizer, decoding_steps, until

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40, stop=STEP_STOPS)
STATE = State("p", "What is 1 + 1?", ("<code>\nx = 1\n<end_of_step>",))


def same(some: Sequence[Candidate], others: Sequence[Candidate]) -> bool:
    """Return whether both are equal up to the rounding of log-probabilities."""
    return [(c.text, c.tokens, c.finish) for c in some] == [(c.text, c.tokens, c.finish) for c in others] and all(
        a.logprob == pytest.approx(b.logprob, abs=1e-3) for a, b in zip(some, others, strict=True)
    )


async def other_calls(policy: TransformersPolicy, size: int) -> None:
    """Make ``size`` different calls, which share batches with a test's own call."""
    await asyncio.gather(
        *(
            policy.propose(
                State("other", "x" * (7 * i % 50)),
                1 + i % 5,
                Sampling(0.5 + i % 2, 0.9, 5 + 3 * i, STEP_STOPS[: i % 3]),
                i,
            )
            for i in range(size)
        )
    )


async def test_the_engine_is_a_policy_and_names_its_checkpoint(policy: TransformersPolicy, checkpoint: Path) -> None:
    assert isinstance(policy, Policy)
    proposal = await policy.propose(STATE, 1, SAMPLING, 0)
    assert proposal.model_digest == policy.digest == checkpoint_digest(checkpoint)


async def test_a_candidate_is_the_same_alone_and_in_a_shared_batch(policy: TransformersPolicy) -> None:
    alone = await policy.propose(STATE, 6, SAMPLING, 3)
    others = asyncio.ensure_future(other_calls(policy, 30))
    await asyncio.sleep(0.01)  # some of them start, so that the call joins a running batch
    together = await asyncio.gather(*(policy.propose(STATE, 6, SAMPLING, 3) for _ in range(3)))
    await others
    for proposal in together:
        assert same(proposal.candidates, alone.candidates)


async def test_candidate_k_does_not_depend_on_n(policy: TransformersPolicy) -> None:
    many = await policy.propose(STATE, 8, SAMPLING, 5)
    few = await policy.propose(STATE, 3, SAMPLING, 5)
    assert same(few.candidates, many.candidates[:3])


async def test_candidates_of_different_seeds_and_indices_differ(policy: TransformersPolicy) -> None:
    some = await policy.propose(STATE, 8, SAMPLING, 1)
    other = await policy.propose(STATE, 8, SAMPLING, 2)
    texts = [c.text for c in (*some.candidates, *other.candidates)]
    assert len(set(texts)) == len(texts)


async def test_long_candidates_stay_reproducible_beyond_one_block_of_uniforms(policy: TransformersPolicy) -> None:
    sampling = Sampling(1.0, 1.0, 150, ())
    alone = await policy.propose(STATE, 2, sampling, 9)
    together, *_ = await asyncio.gather(policy.propose(STATE, 2, sampling, 9), other_calls(policy, 20))
    assert same(together.candidates, alone.candidates)


async def test_greedy_candidates_equal_those_of_generate(policy: TransformersPolicy, checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    states = [State("p", "a" * length) for length in (1, 9, 30)]
    proposals = await asyncio.gather(*(policy.propose(s, 2, Sampling(0.0, 1.0, 40, ()), 0) for s in states))
    for state, proposal in zip(states, proposals, strict=True):
        ids = torch.tensor([TrajectoryTokenizer(tokenizer).state(state.question)])
        output = model.generate(ids, do_sample=False, max_new_tokens=40)[0, ids.shape[1] :]
        for candidate in proposal.candidates:
            assert candidate.tokens == len(output)
            assert candidate.text == tokenizer.decode(output[output != tokenizer.eos_token_id])


async def test_logprob_is_the_sum_under_the_full_distribution(policy: TransformersPolicy, checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    prompt = TrajectoryTokenizer(tokenizer).state(STATE.question, STATE.steps)
    proposal = await policy.propose(STATE, 1, Sampling(0.0, 1.0, 12, ()), 0)
    output = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
    with torch.inference_mode():
        logprobs = model(output).logits[0].log_softmax(-1)
    expected = sum(logprobs[i - 1, output[0, i]].item() for i in range(len(prompt), output.shape[1]))
    assert proposal.candidates[0].logprob == pytest.approx(expected, abs=1e-3)


async def test_a_candidate_ends_with_its_stop_marker(policy: TransformersPolicy) -> None:
    proposal = await policy.propose(STATE, 64, Sampling(1.0, 1.0, 200, STEP_STOPS), 0)
    stopped = [c for c in proposal.candidates if c.finish is Finish.STOP]
    assert stopped
    for candidate in stopped:
        assert candidate.text.endswith(STEP_STOPS)
        assert sum(candidate.text.count(stop) for stop in STEP_STOPS) == 1


async def test_a_stop_text_of_many_tokens_ends_a_candidate(policy: TransformersPolicy) -> None:
    free = (await policy.propose(STATE, 1, Sampling(0.0, 1.0, 30, ()), 0)).candidates[0].text
    readable = max(range(len(free) - 1), key=lambda i: free[i : i + 2].isascii())
    stop = free[readable : readable + 2]
    assert stop.isascii()
    proposal = await policy.propose(STATE, 1, Sampling(0.0, 1.0, 30, (stop, END_OF_STEP)), 0)
    candidate = proposal.candidates[0]
    assert candidate.finish is Finish.STOP
    assert candidate.text == free[: free.index(stop) + 2]
    assert candidate.tokens < 30


async def test_a_candidate_ends_at_its_token_limit(policy: TransformersPolicy) -> None:
    proposal = await policy.propose(STATE, 16, Sampling(1.0, 1.0, 7, ()), 0)
    for candidate in proposal.candidates:
        assert (candidate.finish is Finish.LENGTH and candidate.tokens == 7) or candidate.finish is Finish.EOS


async def test_the_end_of_the_context_ends_a_candidate(policy: TransformersPolicy) -> None:
    state = State("p", "x" * 400)
    room = 512 - len(render(state.question)) + sum(len(m) - 1 for m in ("<|user|>", "<|assistant|>"))
    proposal = await policy.propose(state, 4, Sampling(1.0, 1.0, 4_000, ()), 0)
    assert all(c.tokens == room for c in proposal.candidates if c.finish is Finish.LENGTH)
    assert any(c.finish is Finish.LENGTH for c in proposal.candidates)


async def test_the_end_of_text_token_is_counted_and_not_in_the_text(policy: TransformersPolicy) -> None:
    proposal = await policy.propose(STATE, 64, Sampling(1.0, 1.0, 150, ()), 0)
    ended = [c for c in proposal.candidates if c.finish is Finish.EOS]
    assert ended
    assert all("<|endoftext|>" not in c.text and c.tokens <= 150 for c in ended)


async def test_a_prompt_longer_than_the_context_is_refused(policy: TransformersPolicy) -> None:
    with pytest.raises(ValueError, match="the model's context is 512"):
        await policy.propose(State("p", "x" * 600), 1, SAMPLING, 0)


@pytest.mark.parametrize(
    ("n", "sampling", "seed", "word"),
    [
        (0, SAMPLING, 0, "n is 0"),
        (200_000, SAMPLING, 0, "at most 100000 candidates"),
        (1, Sampling(-1.0), 0, "temperature"),
        (1, Sampling(float("nan")), 0, "temperature"),
        (1, Sampling(1.0, 0.0), 0, "top_p"),
        (1, Sampling(1.0, 1.0, 0), 0, "max_new_tokens"),
        (1, Sampling(1.0, 1.0, 5, ("",)), 0, "stop"),
        (1, SAMPLING, -1, "seed"),
    ],
)
async def test_an_impossible_request_is_refused_with_the_name_of_the_setting(
    policy: TransformersPolicy, n: int, sampling: Sampling, seed: int, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        await policy.propose(STATE, n, sampling, seed)


async def test_more_calls_than_rows_are_all_answered(checkpoint: Path) -> None:
    async with TransformersPolicy.load(checkpoint, max_rows=8) as policy:
        alone = await policy.propose(STATE, 5, SAMPLING, 2)
        proposals = await asyncio.gather(*(policy.propose(STATE, 5, SAMPLING, 2 + seed % 2) for seed in range(20)))
        for proposal in proposals[::2]:
            assert same(proposal.candidates, alone.candidates)


async def test_a_request_with_more_candidates_than_rows_is_decoded_in_parts(
    policy: TransformersPolicy, checkpoint: Path
) -> None:
    expected = await policy.propose(STATE, 20, SAMPLING, 2)
    async with TransformersPolicy.load(checkpoint, max_rows=8) as small:
        proposal = await small.propose(STATE, 20, SAMPLING, 2)
    assert same(proposal.candidates, expected.candidates)


async def test_a_call_begins_when_it_leaves_the_queue(checkpoint: Path) -> None:
    async with TransformersPolicy.load(checkpoint, max_rows=8) as policy:
        first, second = asyncio.Event(), asyncio.Event()
        holding = asyncio.ensure_future(policy.propose(STATE, 8, Sampling(0.0, 1.0, 400, ()), 0, first))
        waiting = asyncio.ensure_future(policy.propose(State("p", "wait"), 8, SAMPLING, 0, second))
        await first.wait()
        assert not second.is_set()
        holding.cancel()
        await second.wait()
        await waiting


async def test_a_cancelled_call_frees_its_rows(checkpoint: Path) -> None:
    async with TransformersPolicy.load(checkpoint, max_rows=8) as policy:
        endless = Sampling(0.0, 1.0, 400, ())
        holding = asyncio.ensure_future(policy.propose(State("p", "hold"), 8, endless, 0))
        waiting = asyncio.ensure_future(policy.propose(State("p", "wait"), 8, endless, 0))
        before = decoding_steps()
        await until(lambda: policy.candidates > 0)
        for call in (holding, waiting):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await policy.propose(STATE, 8, Sampling(1.0, 1.0, 2), 0)
        assert policy.candidates == 0
        assert decoding_steps() - before < 390  # neither of the two was decoded to its end


async def test_a_failed_batch_fails_only_its_own_calls(policy: TransformersPolicy) -> None:
    before = await policy.propose(STATE, 2, SAMPLING, 0)
    # Ids beyond the vocabulary make the model itself fail.
    encode, policy._tokenizer.encode = policy._tokenizer.encode, lambda question, steps: [10**6]  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the batch failed"):
        await policy.propose(STATE, 2, SAMPLING, 0)
    policy._tokenizer.encode = encode  # type: ignore[method-assign]
    after = await policy.propose(STATE, 2, SAMPLING, 0)
    assert same(after.candidates, before.candidates)


async def test_closing_fails_the_waiting_calls(checkpoint: Path) -> None:
    policy = TransformersPolicy.load(checkpoint)
    call = asyncio.ensure_future(policy.propose(STATE, 4, Sampling(0.0, 1.0, 400, ()), 0))
    await asyncio.sleep(0.02)
    await policy.close()
    with pytest.raises(RuntimeError, match="closed"):
        await call
    with pytest.raises(RuntimeError, match="closed"):
        await policy.propose(STATE, 1, SAMPLING, 0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        TransformersPolicy.load(tmp_path)


def test_an_architecture_without_a_plain_cache_is_refused() -> None:
    model: Any = MambaForCausalLM(MambaConfig(vocab_size=32, hidden_size=16, state_size=4, num_hidden_layers=2))
    tokenizer = byte_tokenizer()
    with pytest.raises(ValueError, match="'mamba'"):
        TransformersPolicy(
            model, PolicyTokenizer(TrajectoryTokenizer(tokenizer), "trained", [tokenizer.eos_token_id]), 512, "digest"
        )

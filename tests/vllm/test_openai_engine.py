"""The engine for OpenAI-compatible servers against a real ``vllm serve`` with a tiny random model.

It needs the environment of ``make test-vllm``. The other servers' lacks are tested in ``tests/services/policy``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

pytest.importorskip("vllm")

import torch
from rstar_policy.openai_engine import OpenAIPolicy, inspect_endpoint
from rstar_policy.openai_http import CompletionsServer
from transformers import AutoModelForCausalLM

from rstar.interfaces import Candidate, Finish, Sampling, State
from rstar.prompt import render
from rstar.trajectory import END_OF_STEP, STEP_STOPS
from tests.support.tiny_model import byte_tokenizer, tiny_config

STATE = State("p", "1 + 1?", ("<code>\nx = 1\n<end_of_step>",))
SAMPLING = Sampling(1.0, 1.0, 40, ("a", "bc", END_OF_STEP))

SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
}
OPTIONS = "--dtype float32 --enforce-eager --block-size 32 --no-enable-chunked-prefill --max-num-batched-tokens 8192"
START_SECONDS = 900.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running ``vllm serve`` whose model is named ``tiny``."""
    folder = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    # vLLM's attention on CPUs needs heads of 32 numbers.
    config = tiny_config("llama", len(tokenizer), hidden_size=128, eos_token_id=tokenizer.eos_token_id)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model")]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), *OPTIONS.split()]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **SETTINGS}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert process.poll() is None, log.read_text()[-4_000:]
            assert time.monotonic() < deadline, log.read_text()[-4_000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
async def policy(url: str) -> AsyncIterator[OpenAIPolicy]:
    model = await inspect_endpoint(CompletionsServer(url), None)
    async with OpenAIPolicy(CompletionsServer(url), model, _text, 256) as opened:
        yield opened


def _text(state: State) -> str:
    return render(state.question, state.steps)


def texts(candidates: tuple[Candidate, ...]) -> list[tuple[str, Finish]]:
    return [(candidate.text, candidate.finish) for candidate in candidates]


async def test_every_ability_of_vllm_is_found(url: str) -> None:
    model = await inspect_endpoint(CompletionsServer(url), "tiny")
    assert model.abilities.missing() == []
    assert (model.abilities.most_n, model.abilities.stops) == (16, "named")
    assert model.context == 512


async def test_candidates_end_with_their_stop_text_and_count_their_tokens(policy: OpenAIPolicy) -> None:
    proposal = await policy.propose(STATE, 16, SAMPLING, 7)
    stopped = [candidate for candidate in proposal.candidates if candidate.finish is Finish.STOP]
    assert stopped
    assert all(candidate.text.endswith(SAMPLING.stop) for candidate in stopped)
    assert all(candidate.text.count("a") + candidate.text.count("bc") <= 1 for candidate in proposal.candidates)
    assert all(candidate.tokens and candidate.logprob < 0 for candidate in proposal.candidates)
    assert not any("<|endoftext|>" in candidate.text for candidate in proposal.candidates)


async def test_a_candidate_depends_on_its_number_and_the_seed_and_not_on_n(policy: OpenAIPolicy) -> None:
    few = await policy.propose(STATE, 3, SAMPLING, 7)
    many = await policy.propose(STATE, 70, SAMPLING, 7)
    assert texts(few.candidates) == texts(many.candidates[:3])
    assert len(set(texts(many.candidates))) > 60


async def test_more_stop_texts_than_vllm_takes_give_the_same_candidates(policy: OpenAIPolicy) -> None:
    few = await policy.propose(STATE, 4, SAMPLING, 7)
    unused = ("never to be seen", "nor this")
    many = await policy.propose(STATE, 4, Sampling(1.0, 1.0, 40, (*SAMPLING.stop, *unused)), 7)
    assert texts(many.candidates) == texts(few.candidates)


async def test_the_stop_texts_of_a_search_are_taken(policy: OpenAIPolicy) -> None:
    proposal = await policy.propose(STATE, 2, Sampling(1.0, 1.0, 8, STEP_STOPS), 7)
    assert len(proposal.candidates) == 2


async def test_markers_are_in_the_text(policy: OpenAIPolicy) -> None:
    long = Sampling(1.0, 1.0, 200, (END_OF_STEP,))
    proposal = await policy.propose(STATE, 32, long, 3)
    assert any(text.endswith(END_OF_STEP) for text, _ in texts(proposal.candidates))


async def test_a_cancelled_call_ends_its_requests_on_the_server(policy: OpenAIPolicy, url: str) -> None:
    call = asyncio.ensure_future(policy.propose(STATE, 64, Sampling(1.0, 1.0, 400, ()), 0))
    await running_becomes(url, lambda running: running > 0)
    call.cancel()
    await running_becomes(url, lambda running: running == 0)


async def test_a_prompt_beyond_the_context_is_refused_with_the_servers_reason(policy: OpenAIPolicy) -> None:
    with pytest.raises(ValueError, match=r"refuses the request: .*512"):
        await policy.propose(State("p", "x" * 600), 1, SAMPLING, 0)
    [candidate] = (await policy.propose(STATE, 1, Sampling(0.0, 1.0, 10_000, ()), 0)).candidates
    assert candidate.tokens > 100


async def running_becomes(url: str, holds: Callable[[float], bool]) -> None:
    """Wait until the number of running requests in vLLM's metrics is as wanted."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            async with session.get(url.replace("/v1", "/metrics")) as response:
                lines = (await response.text()).splitlines()
            running = sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))
            if holds(running):
                return
            await asyncio.sleep(0.05)

"""The policy service over gRPC: answers, refused requests, cancellation, and the whole program."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client import REGISTRY
from rstar_policy.service import PolicyService
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Sampling, State
from rstar.rpc.codec import propose_request, read_propose_response
from rstar.trajectory import STEP_STOPS
from rstar.v1 import policy_pb2, policy_pb2_grpc
from tests.support.tiny_model import decoding_steps, save_policy, until

SAMPLING = Sampling(1.0, 1.0, 20, STEP_STOPS)


@asynccontextmanager
async def serving(policy: TransformersPolicy) -> AsyncIterator[policy_pb2_grpc.PolicyServiceAsyncStub]:
    server = grpc.aio.server()
    PolicyService(policy).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
        yield stub
    await server.stop(0)


async def test_the_service_returns_the_engines_candidates(policy: TransformersPolicy) -> None:
    state = State("p", "1 + 1?")
    expected = await policy.propose(state, 5, SAMPLING, 2**64 - 1)
    async with serving(policy) as stub:
        reply = await stub.Propose(propose_request(state, 5, SAMPLING, 2**64 - 1))
    proposal = read_propose_response(reply)
    assert [c.text for c in proposal.candidates] == [c.text for c in expected.candidates]
    assert proposal.model_digest == policy.digest


async def test_the_deadline_of_a_call_starts_when_it_leaves_the_queue(checkpoint: Path) -> None:
    endless = Sampling(0.0, 1.0, 400, ())
    async with TransformersPolicy.load(checkpoint, max_rows=4) as policy, serving(policy) as stub:
        holding = stub.Propose(propose_request(State("p", "hold"), 4, endless, 0))
        await until(lambda: policy.candidates > 0)
        waiting = asyncio.ensure_future(stub.Propose(propose_request(State("p", "w"), 4, endless, 0, 1e-3)))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        holding.cancel()
        with pytest.raises(grpc.aio.AioRpcError, match=r"did not answer within 0\.001 s from when it began") as ended:
            await waiting
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: policy.candidates == 0)


async def test_the_tokens_of_calls_that_wait_are_counted_until_they_run(checkpoint: Path) -> None:
    endless = Sampling(0.0, 1.0, 400, ())
    async with TransformersPolicy.load(checkpoint, max_rows=4) as policy, serving(policy) as stub:
        await until(lambda: queued_tokens() == 0)
        holding = stub.Propose(propose_request(State("p", "hold"), 4, endless, 0))
        await until(lambda: policy.candidates > 0)
        state = State("p", "wait")
        tokens = len(policy_prompt(policy, state)) + 3 * SAMPLING.max_new_tokens
        waiting = [asyncio.ensure_future(stub.Propose(propose_request(state, 3, SAMPLING, i))) for i in range(5)]
        await until(lambda: queued_tokens() == 5 * tokens)
        waiting.pop().cancel()
        await until(lambda: queued_tokens() == 4 * tokens)
        holding.cancel()
        await asyncio.gather(*waiting)
        await until(lambda: queued_tokens() == 0)


def queued_tokens() -> float | None:
    return REGISTRY.get_sample_value("rstar_policy_queued_tokens")


def policy_prompt(policy: TransformersPolicy, state: State) -> list[int]:
    return policy._tokenizer.encode(state.question, state.steps)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (policy_pb2.ProposeRequest(question="q"), "n is 0"),
        (policy_pb2.ProposeRequest(question="q", n=1), "top_p"),
        (propose_request(State("p", "x" * 600), 1, SAMPLING, 0), "context"),
    ],
)
async def test_bad_requests_are_invalid_arguments(
    policy: TransformersPolicy, request_: policy_pb2.ProposeRequest, word: str
) -> None:
    async with serving(policy) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Propose(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert word in (caught.value.details() or "")


async def test_a_cancelled_call_frees_its_rows(policy: TransformersPolicy) -> None:
    endless = Sampling(0.0, 1.0, 400, ())
    async with serving(policy) as stub:
        before = decoding_steps()
        call = stub.Propose(propose_request(State("p", "q"), 64, endless, 0))
        await until(lambda: policy.candidates > 0)
        call.cancel()
        await until(lambda: policy.candidates == 0)
    assert decoding_steps() - before < 390


async def test_the_program_serves_a_checkpoint_and_ends_on_sigterm(tmp_path: Path) -> None:
    checkpoint, ready = save_policy("llama", tmp_path / "model"), tmp_path / "ready"
    command = [sys.executable, "-m", "rstar_policy", "--model", str(checkpoint), "--threads", "1", "--port", "0"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    process = await asyncio.create_subprocess_exec(*command, "--ready-file", str(ready), env=environment)
    try:
        while not ready.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        async with grpc.aio.insecure_channel(ready.read_text()) as channel:
            stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
            reply = await stub.Propose(propose_request(State("p", "1 + 1?"), 3, SAMPLING, 0))
        assert len(reply.candidates) == 3
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_folder_without_a_model_ends_the_program_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rstar_policy", "--model", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip().endswith("give a Hugging Face model folder")
    assert "Traceback" not in result.stderr

"""The PPM service over gRPC: scores, refused requests, and the whole program."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import grpc
import pytest
from prometheus_client import REGISTRY
from rstar_ppm.packing import Row
from rstar_ppm.service import PreferenceModelService
from rstar_ppm.transformers_ppm import TransformersPreferenceModel

from rstar.interfaces import State
from rstar.rpc.codec import read_score_response, score_request, score_steps_request
from rstar.v1 import preference_pb2_grpc
from tests.support.tiny_model import save_ppm, until

STATE = State("p", "1 + 1?", ("<code>\nx = 1\n<end_of_step>",))


async def test_the_service_returns_the_models_scores_and_refuses_a_text_that_is_too_long(checkpoint: Path) -> None:
    async with TransformersPreferenceModel.load(checkpoint) as ppm:
        expected = await ppm.score(STATE, ["a", "bb"])
        server = grpc.aio.server()
        PreferenceModelService(ppm).register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: preference_pb2_grpc.PreferenceModelServiceAsyncStub = preference_pb2_grpc.PreferenceModelServiceStub(
                channel
            )
            assert read_score_response(await stub.Score(score_request(STATE, ["a", "bb"]))) == expected
            by_step = read_score_response(await stub.Score(score_steps_request(STATE)))
            alone = await ppm.score(State("p", STATE.question), STATE.steps)
            assert by_step.values == pytest.approx(alone.values, abs=1e-5)
            mixed = score_steps_request(STATE)
            mixed.candidates.append("a")
            with pytest.raises(grpc.aio.AioRpcError, match="leave the candidates out"):
                await stub.Score(mixed)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Score(score_request(STATE, ["x" * 600]))
        await server.stop(0)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "context" in (caught.value.details() or "")


async def test_the_tokens_of_calls_that_wait_are_counted_until_the_model_begins_with_them(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TransformersPreferenceModel.load(checkpoint, max_rows=1) as ppm:
        await ppm.score(STATE, ["warm"])
        begun, turns, score = threading.Event(), threading.Semaphore(0), ppm._scorer.score

        def held(rows: list[Row]) -> dict[int, float]:
            begun.set()
            turns.acquire(timeout=30)
            return score(rows)

        monkeypatch.setattr(ppm._scorer, "score", held)
        server = grpc.aio.server()
        PreferenceModelService(ppm).register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: preference_pb2_grpc.PreferenceModelServiceAsyncStub = preference_pb2_grpc.PreferenceModelServiceStub(
                channel
            )
            encoded = ppm._encoder.encoded(STATE.question, STATE.steps)
            tokens = len(encoded.ids) + len(ppm._encoder.step("a", 2)) + len(ppm._encoder.step("bb", 2))
            running = asyncio.ensure_future(stub.Score(score_request(STATE, ["first"])))
            await until(begun.is_set)
            assert queued_tokens() == 0
            calls = [asyncio.ensure_future(stub.Score(score_request(STATE, ["a", "bb"]))) for _ in range(4)]
            await until(lambda: queued_tokens() == 4 * tokens)
            # Those that were taken together with the running one still wait, as long as no row of theirs runs.
            turns.release()
            await running
            await until(lambda: queued_tokens() == 3 * tokens)
            calls.pop().cancel()
            turns.release(10)
            await asyncio.gather(*calls)
            await until(lambda: queued_tokens() == 0)
        await server.stop(0)


def queued_tokens() -> float | None:
    return REGISTRY.get_sample_value("rstar_ppm_queued_tokens")


async def test_the_program_serves_a_checkpoint_and_ends_on_sigterm(tmp_path: Path) -> None:
    folder, ready = save_ppm("llama", tmp_path / "model"), tmp_path / "ready"
    command = [sys.executable, "-m", "rstar_ppm", "--model", str(folder), "--threads", "1", "--port", "0"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    process = await asyncio.create_subprocess_exec(*command, "--ready-file", str(ready), env=environment)
    try:
        while not ready.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        async with grpc.aio.insecure_channel(ready.read_text()) as channel:
            stub: preference_pb2_grpc.PreferenceModelServiceAsyncStub = preference_pb2_grpc.PreferenceModelServiceStub(
                channel
            )
            reply = await stub.Score(score_request(STATE, ["a", "b", "c"]))
        assert len(reply.scores) == 3
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

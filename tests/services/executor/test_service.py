"""The executor over real gRPC: results, refusals, cancellation, deadlines, and the server as a process."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.server.service import ExecutorService

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from rstar.rpc.codec import execute_request, read_execute_response
from rstar.v1 import executor_pb2_grpc
from tests.services.executor.conftest import LIMITS
from tests.services.executor.test_slots import ENDLESS, LONG
from tests.support.executor.processes import alive, inside, running_program
from tests.support.states import START, after


@pytest.fixture
async def stub(executor: LocalExecutor) -> AsyncIterator[executor_pb2_grpc.ExecutorServiceAsyncStub]:
    server = grpc.aio.server()
    ExecutorService(executor).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: executor_pb2_grpc.ExecutorServiceAsyncStub = executor_pb2_grpc.ExecutorServiceStub(channel)
        yield stub
    await server.stop(0)


async def test_results_arrive_in_the_order_of_the_candidates(stub: executor_pb2_grpc.ExecutorServiceAsyncStub) -> None:
    request = execute_request(after(["x = 6\n<end_of_step>"]), ["print(x * 7)", "x / 0", "print('\ud800')"], LIMITS)
    good, bad, odd = read_execute_response(await stub.Execute(request))
    assert (good.status, good.stdout, good.reason) == (S.OK, "42\n", "")
    assert (bad.status, bad.reason) == (S.EXCEPTION, "ZeroDivisionError: division by zero (line 2)")
    assert odd.status == S.OK


async def test_bad_requests_are_refused_with_a_message(stub: executor_pb2_grpc.ExecutorServiceAsyncStub) -> None:
    for request in (
        execute_request(START, [""] * 1025, LIMITS),
        execute_request(START, [""], ExecutionLimits(seconds=-1)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Execute(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details()


@pytest.mark.parametrize("leave", ["cancel", "deadline"])
async def test_a_call_that_ends_early_ends_its_program(
    leave: str, stub: executor_pb2_grpc.ExecutorServiceAsyncStub, executor: LocalExecutor
) -> None:
    before = inside(executor)
    call = stub.Execute(execute_request(START, [ENDLESS], LONG), timeout=2 if leave == "deadline" else None)
    _, program = await running_program(executor, before)
    if leave == "cancel":
        call.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call
    reply = await stub.Execute(execute_request(START, ["print('next')"], LIMITS))
    assert reply.executions[0].stdout == "next\n"
    assert not alive(program)


async def test_a_drain_under_load_loses_no_call(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "rstar_executor", "--slots", "2", "--port", "0", "--ready-file", str(ready)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        while not ready.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        async with grpc.aio.insecure_channel(ready.read_text()) as channel:
            stub: executor_pb2_grpc.ExecutorServiceAsyncStub = executor_pb2_grpc.ExecutorServiceStub(channel)
            programs = [f"import time\ntime.sleep(0.02)\nprint({k})" for k in range(60)]
            calls = [asyncio.ensure_future(stub.Execute(execute_request(START, [text], LIMITS))) for text in programs]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGTERM)
            replies = await asyncio.gather(*calls)
        assert [reply.executions[0].stdout for reply in replies] == [f"{k}\n" for k in range(60)]
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

"""The executor service answers or refuses any bytes in time, and serves the next call.

The server is a real process and the requests are raw bytes, because our own client would not send what an attacker sends.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar.rpc.transport import MAX_MESSAGE_BYTES
from rstar.v1 import executor_pb2
from tests.support.states import START

METHOD = "/rstar.v1.ExecutorService/Execute"
CALL_SECONDS = 60.0


class Refusal(NamedTuple):
    """A refused call: its status code and message."""

    code: grpc.StatusCode
    message: str

    def is_right(self) -> bool:
        """Say whether bad input may be refused so: with our message, or with gRPC's for bytes that are no message."""
        if self.code is grpc.StatusCode.UNKNOWN:
            return "DecodeError" in self.message
        return self.code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


Answer = executor_pb2.ExecuteResponse | Refusal
Call = Callable[[bytes], Answer]

FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
# Most text does not compile; these pieces make programs that start to run.
PIECES = st.sampled_from(
    ["print(1)", "\n", "x = 1", "1/0", "\0", "\ud800", "<code>", "<end_of_step>", "import os", "'", "("]
)
TEXTS = st.one_of(st.text(st.characters(exclude_categories=()), max_size=40), st.lists(PIECES, max_size=6).map("".join))
SECONDS = st.one_of(
    st.floats(max_value=0.3, allow_nan=False), st.sampled_from([float("nan"), float("inf"), 1e308, -0.0])
)
COUNTS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 2**31, 2**32 - 1]))


def _field(number: int, payload: bytes) -> bytes:
    size, length = len(payload), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def _request(steps: Sequence[str], candidates: Sequence[str], limits: bytes = b"") -> bytes:
    """Encode a request by hand: protobuf refuses to encode lone surrogates."""
    texts = [_field(1, step.encode("utf-8", "surrogatepass")) for step in steps]
    texts += [_field(2, candidate.encode("utf-8", "surrogatepass")) for candidate in candidates]
    return b"".join(texts) + (_field(3, limits) if limits else b"")


def _limits(seconds: float, *counts: int) -> bytes:
    wire = executor_pb2.ExecutionLimits(memory_mib=counts[0], output_bytes=counts[1], file_mib=counts[2])
    return b"\x09" + struct.pack("<d", seconds) + wire.SerializeToString()


GOOD = _request(["x = 6\n<end_of_step>"], ["print(x * 7)"], _limits(10.0, 256, 1000, 1))


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Start a server; yield a function that sends raw bytes and returns the answer or the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [sys.executable, "-m", "rstar_executor", "--slots", "1", "--port", "0", "--ready-file", str(ready)]
        process = subprocess.Popen([*command, "--cache-mib", "0"], env={**os.environ, "TMPDIR": folder})
        try:
            while not ready.exists():
                assert process.poll() is None
                time.sleep(0.05)
            options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
            with grpc.insecure_channel(ready.read_text(), options=options) as channel:
                execute = channel.unary_unary(METHOD, bytes, executor_pb2.ExecuteResponse.FromString)

                def send(data: bytes) -> Answer:
                    try:
                        answer = execute(data, timeout=CALL_SECONDS)
                    except grpc.RpcError as error:
                        return Refusal(error.code(), error.details() or "")
                    assert isinstance(answer, executor_pb2.ExecuteResponse)
                    return answer

                yield send
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def check(answer: Answer, call: Call) -> None:
    """Assert that the answer is a proper refusal or has no ``internal`` result, and that the next call is answered."""
    if isinstance(answer, Refusal):
        assert answer.is_right(), answer
    else:
        faults = {executor_pb2.EXECUTION_STATUS_UNSPECIFIED, executor_pb2.EXECUTION_STATUS_INTERNAL}
        assert [execution for execution in answer.executions if execution.status in faults] == []
    following = call(GOOD)
    assert isinstance(following, executor_pb2.ExecuteResponse)
    assert [execution.stdout for execution in following.executions] == ["42\n"]


@FUZZ
@given(data=st.binary(max_size=4000))
def test_random_bytes_are_answered_or_refused(call: Call, data: bytes) -> None:
    check(call(data), call)


@FUZZ
@given(st.data())
def test_a_truncated_or_damaged_request_is_answered_or_refused(call: Call, data: st.DataObject) -> None:
    damaged = bytearray(GOOD[: data.draw(st.integers(0, len(GOOD)), label="cut")])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=4), label="places"):
        if damaged:
            damaged[place] = data.draw(st.integers(0, 255))
    check(call(bytes(damaged)), call)


@FUZZ
@given(steps=st.lists(TEXTS, max_size=3), candidates=st.lists(TEXTS, max_size=4))
@example(steps=[], candidates=["print('\ud800')"])
@example(steps=["\0"], candidates=["print(1)", "\0"])
@example(steps=[], candidates=[""] * 1025)
@example(steps=[], candidates=["(" * 100_000, "-" * 500_000 + "1", "x = " + "[" * 90 + "]" * 90])
def test_any_text_gets_a_status_or_is_refused(call: Call, steps: list[str], candidates: list[str]) -> None:
    answer = call(_request(steps, candidates, _limits(2.0, 256, 1000, 1)))
    if isinstance(answer, executor_pb2.ExecuteResponse):
        assert len(answer.executions) == len(candidates)
    check(answer, call)


@FUZZ
@given(seconds=SECONDS, counts=st.tuples(COUNTS, COUNTS, COUNTS))
@example(seconds=5e-324, counts=(1, 1, 1))
@example(seconds=-1.0, counts=(0, 0, 0))
@example(seconds=float("-inf"), counts=(0, 0, 0))
def test_any_limits_are_applied_or_refused(call: Call, seconds: float, counts: tuple[int, int, int]) -> None:
    answer = call(_request([], ["print(1)"], _limits(seconds, *counts)))
    if not 0 <= seconds < float("inf"):
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    check(answer, call)


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES // 2, MAX_MESSAGE_BYTES - 16, MAX_MESSAGE_BYTES + 1])
def test_a_huge_message_is_answered_or_refused(call: Call, size: int) -> None:
    check(call(_field(2, b"#" * size)), call)
    check(call(b"\xff" * size), call)


@settings(FUZZ, max_examples=6)  # each starts an executor
@given(programs=st.lists(TEXTS, min_size=1, max_size=50))
async def test_any_text_gets_a_status_from_a_local_executor(programs: list[str]) -> None:
    async with LocalExecutor(slots=1, cache_mib=0) as executor:
        executions = await executor.execute(START, programs, ExecutionLimits(seconds=5, memory_mib=256))
    assert ExecutionStatus.INTERNAL not in {execution.status for execution in executions}

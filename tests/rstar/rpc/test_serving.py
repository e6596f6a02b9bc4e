from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from rstar.interfaces import Sampling, State
from rstar.rpc.clients import PolicyClient
from tests.support.rpc.servicers import PROPOSE, free_port, policy_process


async def health(address: str, name: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return (await check(health_pb2.HealthCheckRequest(service=name))).status


async def test_a_service_offers_health_and_reflection() -> None:
    def described(address: str) -> set[str]:
        with grpc.insecure_channel(address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    async with policy_process() as server:
        assert await health(server.address, "") == health_pb2.HealthCheckResponse.SERVING
        assert await health(server.address, PROPOSE) == health_pb2.HealthCheckResponse.SERVING
        assert PROPOSE in await asyncio.to_thread(described, server.address)


async def test_the_ready_file_holds_the_address(tmp_path: Path) -> None:
    ready = tmp_path / "run" / "ready"
    async with policy_process("--ready-file", str(ready)) as server:
        assert ready.read_text() == server.address
        assert [path.name for path in ready.parent.iterdir()] == ["ready"]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_works_and_is_logged_with_brackets(host: str) -> None:
    port = free_port()
    async with policy_process("--host", host, "--metrics-port", str(port)) as server:
        assert server.address.startswith("[::1]:")
        assert await health(server.address, PROPOSE) == health_pb2.HealthCheckResponse.SERVING
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://[::1]:{port}/metrics").read())
        assert b"python_info" in page


async def test_a_server_can_listen_on_all_addresses() -> None:
    async with policy_process("--host", "0.0.0.0") as server:
        port = server.address.removeprefix("0.0.0.0:")
        assert await health(f"127.0.0.1:{port}", PROPOSE) == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_are_served_over_http() -> None:
    port = free_port()
    async with policy_process("--metrics-port", str(port)):
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read())
        assert b"python_info" in page


async def test_sigint_starts_a_drain() -> None:
    async with policy_process() as server:
        server.signal(signal.SIGINT)
        assert await server.process.wait() == 0


async def test_a_second_signal_ends_the_drain_at_once() -> None:
    async with (
        policy_process("--call-seconds", "3600", "--drain-seconds", "3600") as server,
        PolicyClient([server.address]) as policy,
    ):
        call = asyncio.ensure_future(policy.propose(State("p", "q"), 1, Sampling(), 0))
        await asyncio.sleep(0)
        server.signal(signal.SIGTERM)
        assert server.process.stderr is not None
        while json.loads(await server.process.stderr.readline())["event"] != "draining":
            pass
        server.signal(signal.SIGTERM)
        assert await server.process.wait() == 128 + signal.SIGTERM
        call.cancel()


async def test_a_taken_port_is_one_sentence_with_the_remedy() -> None:
    async with policy_process() as first:
        port = first.address.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.rpc.policy_process", "--port", port, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert errors.decode().strip().splitlines()[-1].startswith(f"OSError: policy cannot listen on 127.0.0.1:{port}")


async def test_a_server_is_not_serving_during_its_warm_up_and_a_signal_ends_the_warm_up() -> None:
    program = (
        "import asyncio\n"
        "from rstar.rpc.serving import serve\n"
        "async def warm_up(): await asyncio.sleep(3600)\n"
        "async def close(): print('closed')\n"
        f"asyncio.run(serve('slow', lambda server: None, ['{PROPOSE}'], warm_up=warm_up, close=close))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    listening = json.loads(await process.stderr.readline())
    assert await health(listening["address"], PROPOSE) == health_pb2.HealthCheckResponse.NOT_SERVING
    process.terminate()
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"closed\n")

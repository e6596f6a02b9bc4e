"""Startup and readiness probes as in Kubernetes: gRPC health, HTTP, or a TCP connection.

A probe is repeated at least every second, whatever its period, so that tests need not wait for it. Not covered: liveness
probes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
import grpc
from grpc_health.v1 import health_pb2

from rstar_testbed.kubelet.workload import SetReady

_LONGEST_PERIOD: Final = 1.0
_FAILURES: Final = 3


def _ask_health(target: str, service: str, seconds: float) -> bool:
    with grpc.insecure_channel(target) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=seconds)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _ask_http(url: str, headers: dict[str, str], seconds: float) -> bool:
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, ssl=False) as answer,
        ):
            return 200 <= answer.status < 400
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _ask_tcp(host: str, port: int, seconds: float) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), seconds)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _port(container: dict[str, Any], port: int | str) -> int:
    if isinstance(port, int):
        return port
    return next(int(each["containerPort"]) for each in container.get("ports", []) if each.get("name") == port)


async def ask(probe: dict[str, Any], container: dict[str, Any], address: str) -> bool:
    """Probe once, and return whether the container is ready."""
    seconds = float(probe.get("timeoutSeconds", 1))
    if check := probe.get("grpc"):
        target = f"{address}:{check['port']}"
        return await asyncio.to_thread(_ask_health, target, check.get("service") or "", seconds)
    if check := probe.get("httpGet"):
        scheme = check.get("scheme", "HTTP").lower()
        url = f"{scheme}://{check.get('host') or address}:{_port(container, check['port'])}{check.get('path', '/')}"
        headers = {each["name"]: each["value"] for each in check.get("httpHeaders", [])}
        return await _ask_http(url, headers, seconds)
    if check := probe.get("tcpSocket"):
        return await _ask_tcp(check.get("host") or address, _port(container, check["port"]), seconds)
    return True


async def follow(container: dict[str, Any], address: str, set_ready: SetReady) -> None:
    """Probe for ever, and call ``set_ready`` with each result that counts."""
    startup = container.get("startupProbe")
    while startup and not await ask(startup, container, address):
        await _pause(startup)
    probe = container.get("readinessProbe")
    if not probe:
        set_ready(True)
        return
    failures = 0
    while True:
        if await ask(probe, container, address):
            failures = 0
            set_ready(True)
        else:
            failures += 1
            if failures >= probe.get("failureThreshold", _FAILURES):
                set_ready(False)
        await _pause(probe)


async def _pause(probe: dict[str, Any]) -> None:
    await asyncio.sleep(min(probe.get("periodSeconds", 10), _LONGEST_PERIOD))

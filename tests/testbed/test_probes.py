"""Readiness probes ask the services that containers really serve."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from rstar_testbed.kubelet.probes import ask


async def test_grpc_readiness_is_the_answer_of_the_health_service() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    probe = {"grpc": {"port": port}, "timeoutSeconds": 60}
    try:
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert not await ask(probe, {}, "127.0.0.1")
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await ask(probe, {}, "127.0.0.1")
        assert not await ask({"grpc": {"port": port, "service": "unknown"}, "timeoutSeconds": 60}, {}, "127.0.0.1")
        assert await ask(
            {"tcpSocket": {"port": "grpc"}, "timeoutSeconds": 60},
            {"ports": [{"name": "grpc", "containerPort": port}]},
            "127.0.0.1",
        )
    finally:
        server.stop(0)
    assert not await ask({"grpc": {"port": port}, "timeoutSeconds": 5}, {}, "127.0.0.1")

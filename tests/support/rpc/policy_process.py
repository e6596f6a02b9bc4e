"""A scripted policy, served by ``rstar.rpc.serving.serve``, for tests that signal or kill a server process."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import grpc

from rstar.rpc.serving import serve
from rstar.v1 import policy_pb2_grpc
from tests.support.rpc.servicers import PROPOSE, Context, ScriptedPolicy


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--call-seconds", type=float, default=0.02)
    parser.add_argument("--drain-seconds", type=float, default=10.0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--health-port", type=int)
    arguments = parser.parse_args()

    async def wait(_: Context) -> None:
        await asyncio.sleep(arguments.call_seconds)

    def register(server: grpc.aio.Server) -> None:
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(ScriptedPolicy(wait), server)

    asyncio.run(
        serve(
            "policy",
            register,
            [PROPOSE],
            host=arguments.host,
            port=arguments.port,
            ready_file=arguments.ready_file,
            drain_seconds=arguments.drain_seconds,
            metrics_port=arguments.metrics_port,
            health_port=arguments.health_port,
        )
    )


if __name__ == "__main__":
    main()

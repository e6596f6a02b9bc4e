"""A scripted executor, served by ``rstar.rpc.serving.serve``: its programs may sleep or end the whole server."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

import grpc

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus, State
from rstar.rpc.call_failures import STARTED
from rstar.rpc.serving import serve
from rstar.v1 import executor_pb2_grpc
from tests.support.rpc.servicers import EXECUTE, Context, ScriptedExecutor

POISON = "poison"


class PoisonableExecutor:
    """Answers each program with its text; the program ``poison`` ends the process like an out-of-memory kill."""

    async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
        """Run the programs one after another."""
        for candidate in candidates:
            if candidate == POISON:
                os._exit(137)
        return [Execution(ExecutionStatus.OK, candidate) for candidate in candidates]


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--call-seconds", type=float, default=0.0)
    parser.add_argument("--signal-start", action="store_true")
    parser.add_argument("--slots", type=int, default=1_000)
    arguments = parser.parse_args()

    async def run() -> None:
        slots = asyncio.Semaphore(arguments.slots)

        async def work(context: Context) -> None:
            async with slots:
                if arguments.signal_start:
                    await context.send_initial_metadata(((STARTED, ""),))
                await asyncio.sleep(arguments.call_seconds)

        def register(server: grpc.aio.Server) -> None:
            servicer = ScriptedExecutor(work, model=PoisonableExecutor())
            executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server)

        await serve("executor", register, [EXECUTE], drain_seconds=20)

    asyncio.run(run())


if __name__ == "__main__":
    main()

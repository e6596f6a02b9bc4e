"""The gRPC service of the executor: one method in front of a ``LocalExecutor``.

Bad requests fail with INVALID_ARGUMENT and one sentence, calls beyond the queue with RESOURCE_EXHAUSTED; what a program
does is never an error of the call. A call that is cancelled or past its deadline ends its programs.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from rstar.rpc.call_failures import STARTED, pushback
from rstar.rpc.codec import execute_response, read_execute_request
from rstar.rpc.serving import refuse
from rstar.v1 import executor_pb2, executor_pb2_grpc
from rstar_executor.server import metrics
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.server.slots import OverloadedError

FULL_NAME: Final = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"].full_name

RETRY_AFTER_SECONDS: Final = 0.5
"""How long a client is asked to wait before it sends a call again that found the queue full."""


class ExecutorService(executor_pb2_grpc.ExecutorServiceServicer):
    """Serves one executor."""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to ``server``."""
        executor_pb2_grpc.add_ExecutorServiceServicer_to_server(self, server)

    async def Execute(  # noqa: N802 - gRPC names it
        self, request: executor_pb2.ExecuteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> executor_pb2.ExecuteResponse:
        """Answer one call; its initial metadata are sent when its programs have a slot."""

        async def started() -> None:
            await context.send_initial_metadata(((STARTED, ""),))

        with metrics.CALL_SECONDS.time():
            try:
                state, candidates, limits = read_execute_request(request)
                executions = await self._executor.execute(
                    state,
                    candidates,
                    limits,
                    tenant=request.tenant,
                    started=started,
                    tracebacks=request.tracebacks,
                )
            except ValueError as error:
                await refuse(context, str(error))
            except OverloadedError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), pushback(RETRY_AFTER_SECONDS))
            return execute_response(executions)

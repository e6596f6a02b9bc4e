"""The gRPC side of the policy service: one method in front of an engine.

Bad requests end with INVALID_ARGUMENT and one sentence, failures of the engine with INTERNAL, the loss of the server
that an engine calls with UNAVAILABLE. A call that is cancelled or
past its deadline cancels the engine's work.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NoReturn

import grpc

from rstar.interfaces import RoleUnavailable
from rstar.rpc.call_failures import pushback
from rstar.rpc.codec import propose_response, read_propose_request
from rstar.rpc.serving import PUSHBACK_SECONDS, bounded, refuse
from rstar.v1 import policy_pb2, policy_pb2_grpc
from rstar_policy import metrics
from rstar_policy.admission import Overloaded
from rstar_policy.engine import Engine

FULL_NAME = policy_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Serves one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to ``server``."""
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(self, server)

    async def Propose(  # noqa: N802 - gRPC names it
        self, request: policy_pb2.ProposeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ProposeResponse:
        """Answer one call."""
        began = time.perf_counter()
        begun = asyncio.Event()
        try:
            work = self._engine.propose(*read_propose_request(request), begun)
            proposal = await bounded(context, work, begun, request.seconds)
        except ValueError as error:
            await refuse(context, str(error))
        except Overloaded as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), pushback(PUSHBACK_SECONDS))
        except RoleUnavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except RuntimeError as error:
            await _fail(context, str(error))
        metrics.SECONDS.observe(time.perf_counter() - began)
        return propose_response(proposal)


async def _fail(context: grpc.aio.ServicerContext[Any, Any], sentence: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INTERNAL, sentence)

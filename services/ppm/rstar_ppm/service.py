"""The gRPC side of the PPM service: one method in front of a preference model.

Bad requests end with INVALID_ARGUMENT and one sentence, failures of the model with INTERNAL.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from rstar.interfaces import RoleUnavailable
from rstar.rpc.codec import read_score_request, score_response
from rstar.rpc.serving import bounded, refuse
from rstar.v1 import preference_pb2, preference_pb2_grpc
from rstar_ppm import metrics
from rstar_ppm.engine import Engine

FULL_NAME = preference_pb2.DESCRIPTOR.services_by_name["PreferenceModelService"].full_name


class PreferenceModelService(preference_pb2_grpc.PreferenceModelServiceServicer):
    """Serves one preference model."""

    def __init__(self, model: Engine) -> None:
        self._model = model

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to ``server``."""
        preference_pb2_grpc.add_PreferenceModelServiceServicer_to_server(self, server)

    async def Score(  # noqa: N802 - gRPC names it
        self, request: preference_pb2.ScoreRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> preference_pb2.ScoreResponse:
        """Answer one call."""
        began = time.perf_counter()
        state, candidates = read_score_request(request)
        begun = asyncio.Event()
        try:
            if request.every_step and candidates:
                raise ValueError("every_step scores the steps of the state: leave the candidates out")
            work = (
                self._model.score_steps(state, begun)
                if request.every_step
                else self._model.score(state, candidates, begun)
            )
            scores = await bounded(context, work, begun, request.seconds)
        except ValueError as error:
            await refuse(context, str(error))
        except RoleUnavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except RuntimeError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        metrics.SECONDS.observe(time.perf_counter() - began)
        return score_response(scores)

"""One unary call: to a chosen endpoint, with a deadline, retried only when the transport failed.

Requests are stateless, so a call whose server was lost is made again, on another server where possible. An answer of a
server is final, also when it is a refusal.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import grpc

from rstar.rpc.endpoints import Endpoint, Endpoints
from rstar.rpc.errors import TRANSPORT_FAILURES, failure
from rstar.rpc.spans import Headers

ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.1
_GROWTH: Final = 3.0
_LONGEST_PAUSE: Final = 3.0

Request = TypeVar("Request")
Response = TypeVar("Response")


async def call(
    endpoints: Endpoints[grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
    choose: Callable[
        [Sequence[Endpoint[grpc.aio.UnaryUnaryMultiCallable[Request, Response]]]],
        Endpoint[grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
    ],
    request: Request,
    seconds: float,
    metadata: Headers = (),
) -> Response:
    """Return the response within ``seconds`` over all attempts. ``metadata`` are sent with each.

    Cancelling the awaiting task cancels the call on the server. Raises ``CallFailed`` or one of its kinds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    left = seconds
    failures = overloads = 0
    avoid: set[str] = set()
    while True:
        endpoint = await endpoints.pick(choose, avoid, left)
        try:
            return await endpoint.method(request, timeout=deadline - loop.time(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            overloaded = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            overloads, failures = overloads + overloaded, failures + (not overloaded)
            wait = pause(overloads if overloaded else failures)
            left = deadline - loop.time() - wait
            if error.code() not in TRANSPORT_FAILURES or failures == ATTEMPTS or left <= 0:
                raise failure(endpoints.service, endpoint.address, error) from error
            avoid.add(endpoint.address)
        finally:
            endpoints.release(endpoint)
        await asyncio.sleep(wait)


def pause(attempt: int) -> float:
    """Return how many seconds to wait after failed attempt ``attempt`` (from 1), at most ``_LONGEST_PAUSE``.

    The pause grows with each attempt and is random, so that clients do not call again all at once.
    """
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * _GROWTH ** (attempt - 1)) * random.uniform(0.5, 1.0)

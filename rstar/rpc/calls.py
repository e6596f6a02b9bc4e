"""One unary call: to a chosen server, with a deadline, and sent again only when the transport failed.

Requests are stateless, so a call whose server died is simply made again, elsewhere where possible. What
a server answers, refusals included, is never asked for twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

import grpc

from rstar.rpc.endpoints import Backend, Pool
from rstar.rpc.errors import TRANSPORT_FAILURES, failure

ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.1
_GROWTH: Final = 3.0
_LONGEST_PAUSE: Final = 3.0

Request = TypeVar("Request")
Response = TypeVar("Response")


async def call(
    pool: Pool[grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
    choose: Callable[
        [Sequence[Backend[grpc.aio.UnaryUnaryMultiCallable[Request, Response]]]],
        Backend[grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
    ],
    request: Request,
    seconds: float,
    avoid: Collection[str] = (),
) -> tuple[Response, str]:
    """Return the response and the address it came from, within ``seconds`` over all attempts.

    Cancelling the awaiting task cancels the call on the server. Raises ``CallFailed`` or one of its kinds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    left = seconds
    failures = overloads = 0
    while True:
        backend = await pool.pick(choose, avoid, left)
        try:
            return await backend.method(request, timeout=deadline - loop.time()), backend.address
        except grpc.aio.AioRpcError as error:
            overloaded = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            overloads, failures = overloads + overloaded, failures + (not overloaded)
            wait = pause(overloads if overloaded else failures)
            left = deadline - loop.time() - wait
            if error.code() not in TRANSPORT_FAILURES or failures == ATTEMPTS or left <= 0:
                raise failure(pool.service, backend.address, error) from error
            avoid = {*avoid, backend.address}
        finally:
            pool.release(backend)
        await asyncio.sleep(wait)


def pause(attempt: int) -> float:
    """Return how many seconds to wait after failed attempt ``attempt`` (from 1), at most ``_LONGEST_PAUSE``.

    Growing, and spread so that clients do not come back together.
    """
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * _GROWTH ** (attempt - 1)) * random.uniform(0.5, 1.0)

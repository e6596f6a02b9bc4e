"""Exceptions for failed calls; each names the service, the address and the reason.

The type shows what to do: mend the request (``CallRefused``), start the service or make it reachable
(``ServiceUnavailable``), allow more time (``CallTimedOut``), or read the log of the service (``CallFailed``).
"""

from __future__ import annotations

from typing import Final

import grpc

from rstar.interfaces import RoleUnavailable

REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
NOT_ANSWERED: Final = "it did not answer within"
"""How a server begins its reason when it ends a call at its deadline (``serving.bounded``); gRPC's own gives none."""

TRANSPORT_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # Our own cancellations end as asyncio.CancelledError, so this CANCELLED means that the server was stopped.
        grpc.StatusCode.CANCELLED,
    }
)


class CallFailed(Exception):  # noqa: N818 - named after the event
    """The service failed; its log has the details."""

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(f"{service} at {address}: {reason}")
        self.service = service
        self.address = address
        self.reason = reason


class CallRefused(CallFailed):
    """The service refused the request, and would refuse it again."""


class ServiceUnavailable(CallFailed, RoleUnavailable):
    """No server could be reached, or none could take the call, within the allowed attempts."""


class CallTimedOut(CallFailed, TimeoutError):  # noqa: N818 - named after the event
    """The deadline of the call passed before the service answered."""


def failure(service: str, address: str, error: grpc.aio.AioRpcError) -> CallFailed:
    """Return the exception for ``error``."""
    code = error.code()
    details = error.details() or "no reason given"
    if code in REFUSALS:
        return CallRefused(service, address, details)
    if code in TRANSPORT_FAILURES:
        return ServiceUnavailable(service, address, f"{code.name}: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        ended_by_server = details.startswith(NOT_ANSWERED)
        return CallTimedOut(
            service, address, details if ended_by_server else "the deadline of the call passed before it answered"
        )
    return CallFailed(service, address, f"{code.name}: {details}")

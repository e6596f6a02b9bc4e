"""How a call can fail, as exceptions that name the service, the address and the reason.

Callers tell by type what to do: mend the request (``CallRefused``), start or reach the service
(``ServiceUnavailable``), give it more time (``CallTimedOut``), or read its log (``CallFailed``).
"""

from __future__ import annotations

from typing import Final

import grpc

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
TRANSPORT_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # Ours end as asyncio.CancelledError, so a CANCELLED that arrives is a server that was ended under the call.
        grpc.StatusCode.CANCELLED,
    }
)


class CallFailed(Exception):  # noqa: N818 - says what happened
    """A call failed for a reason of the service's own; its log has more."""

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(f"{service} at {address}: {reason}")
        self.service = service
        self.address = address
        self.reason = reason


class CallRefused(CallFailed):
    """The service refused the request; sending it again would be refused again."""


class ServiceUnavailable(CallFailed):
    """No server could be reached, or none could take the call, within the bounded attempts."""


class CallTimedOut(CallFailed, TimeoutError):  # noqa: N818 - says what happened
    """The call's time was over before the service answered."""


def failure(service: str, address: str, error: grpc.aio.AioRpcError) -> CallFailed:
    """Return the exception that stands for ``error``."""
    code = error.code()
    details = error.details() or "no reason given"
    if code in REFUSALS:
        return CallRefused(service, address, details)
    if code in TRANSPORT_FAILURES:
        return ServiceUnavailable(service, address, f"{code.name}: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallTimedOut(service, address, "the call's time was over before it answered")
    return CallFailed(service, address, f"{code.name}: {details}")

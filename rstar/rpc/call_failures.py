"""Classifies a failed call to an executor: whether its programs ran, and whether they may run elsewhere.

gRPC does not report whether the server sent a status or the connection broke. The difference decides which programs
become suspects: if the connection broke, a running program may have killed the executor; a program that was refused or
had not started cannot have. So four things are examined: the pushback that our servers send with every refusal, the
texts of gRPC's own failures, the state of the connection, and the initial metadata that our executors send when a call
leaves the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import grpc

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Trailing metadata: after how many milliseconds a client may call again (gRFC A6); negative or unreadable: never."""

STARTED: Final = "rstar-started"
"""Initial metadata that an executor sends when it starts to run the programs of a call."""

_NOT_SENT: Final = "failed to connect"
_TOO_LARGE: Final = "larger than max"
_BROKEN: Final = (
    "socket closed",
    "stream removed",
    "connection reset",
    "broken pipe",
    "goaway",
    "keepalive",
    "ping timeout",
    "endpoint closing",
    "transport",
    "timed out",
)
"""Parts of gRPC's error texts for a connection that broke during a call, in lower case."""


class FailureKind(Enum):
    """What happened to the programs of a failed call."""

    LOST = auto()  # the executor was lost while it may have run them
    UNREACHED = auto()  # no executor ran them, and this one seems unhealthy
    BUSY = auto()  # no executor ran them: this one is healthy, but full or draining
    FINAL = auto()  # the call would fail in the same way elsewhere


@dataclass(frozen=True, slots=True)
class CallFailure:
    """The kind of a failure, and the pause in seconds that the server asked for, if any."""

    kind: FailureKind
    wait: float | None = None


def classify_failure(
    code: grpc.StatusCode,
    details: str,
    trailing: Iterable[tuple[str, str | bytes]] = (),
    *,
    connected: bool,
    started: bool = True,
) -> CallFailure:
    """Classify a call that ended with ``code``.

    ``connected``: the connection to the server still exists; ``started``: the programs of the call may have started.
    """
    pushed_back = next((value for key, value in trailing if key == PUSHBACK), None)
    text = details.lower()
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.UNAVAILABLE if pushed_back is not None:
            wait = pushback_seconds(pushed_back)
            return CallFailure(FailureKind.FINAL) if wait is None else CallFailure(FailureKind.BUSY, wait)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return CallFailure(FailureKind.FINAL if _TOO_LARGE in text else FailureKind.BUSY)
        case grpc.StatusCode.UNAVAILABLE if text.startswith(_NOT_SENT):
            return CallFailure(FailureKind.UNREACHED)
        case grpc.StatusCode.UNAVAILABLE:
            broken = not connected or any(phrase in text for phrase in _BROKEN)
            return CallFailure(FailureKind.LOST if broken and started else FailureKind.UNREACHED)
        # Our own cancellations end as asyncio.CancelledError, so this CANCELLED means that the server was stopped.
        case grpc.StatusCode.CANCELLED | grpc.StatusCode.INTERNAL:
            return CallFailure(FailureKind.LOST if started else FailureKind.UNREACHED)
        case _:
            return CallFailure(FailureKind.FINAL)


def pushback(seconds: float) -> tuple[tuple[str, str]]:
    """Return the trailing metadata that ask a client to call again after ``seconds``."""
    return ((PUSHBACK, str(round(seconds * 1000))),)


def pushback_seconds(value: str | bytes) -> float | None:
    """Read the value of ``PUSHBACK``: seconds to wait, or None for never."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    text = text.strip()
    return int(text) / 1000 if text.isascii() and text.isdecimal() else None

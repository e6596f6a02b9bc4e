"""What a failed call to an executor means for its programs: whether they ran, and may run elsewhere.

gRPC does not say whether a status was the server's answer or the sound of its connection breaking. The difference
decides who is suspected: a program under which a connection broke may have killed the executor, one that was turned
away, or had yet to begin, is innocent. So four things are looked at: the pushback that our servers send with every
refusal, the words of gRPC's own failures, whether the connection is still there, and the initial metadata that our
executors send when a call leaves the queue. Pure functions; the module refuses to call anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import grpc

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Trailing metadata by which a server says when to come back (gRFC A6); negative or unreadable: never."""

STARTED: Final = "rstar-started"
"""Initial metadata that an executor sends when it begins to run the programs of a call."""

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
"""What gRPC says of a connection that broke under a call, in small letters."""


class Meaning(Enum):
    """What became of the programs of a call."""

    LOST = auto()  # the executor went away while it may have run them
    UNREACHED = auto()  # no executor had them, and it does not look well
    BUSY = auto()  # no executor had them: it is well and has too much to do, or is about to end
    FINAL = auto()  # it would end the same elsewhere


@dataclass(frozen=True, slots=True)
class Outcome:
    """A meaning, and how many seconds the server asked to be left alone, if it said."""

    meaning: Meaning
    wait: float | None = None


def outcome(
    code: grpc.StatusCode,
    details: str,
    trailing: Iterable[tuple[str, str | bytes]] = (),
    *,
    connected: bool,
    begun: bool = True,
) -> Outcome:
    """Judge a call that ended with ``code``.

    ``connected``: the connection to its server is still there; ``begun``: its programs may have begun to run.
    """
    asked = next((value for key, value in trailing if key == PUSHBACK), None)
    words = details.lower()
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.UNAVAILABLE if asked is not None:
            wait = pushback_seconds(asked)
            return Outcome(Meaning.FINAL) if wait is None else Outcome(Meaning.BUSY, wait)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Outcome(Meaning.FINAL if _TOO_LARGE in words else Meaning.BUSY)
        case grpc.StatusCode.UNAVAILABLE if words.startswith(_NOT_SENT):
            return Outcome(Meaning.UNREACHED)
        case grpc.StatusCode.UNAVAILABLE:
            broken = not connected or any(phrase in words for phrase in _BROKEN)
            return Outcome(Meaning.LOST if broken and begun else Meaning.UNREACHED)
        # Ours end as asyncio.CancelledError, so a CANCELLED that arrives is a server that was ended under the call.
        case grpc.StatusCode.CANCELLED | grpc.StatusCode.INTERNAL:
            return Outcome(Meaning.LOST if begun else Meaning.UNREACHED)
        case _:
            return Outcome(Meaning.FINAL)


def pushback(seconds: float) -> tuple[tuple[str, str]]:
    """Return the trailing metadata that ask a caller to come back after ``seconds``."""
    return ((PUSHBACK, str(round(seconds * 1000))),)


def pushback_seconds(value: str | bytes) -> float | None:
    """Read the value of ``PUSHBACK``: seconds to wait, or None for never."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    text = text.strip()
    return int(text) / 1000 if text.isascii() and text.isdecimal() else None

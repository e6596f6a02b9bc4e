"""Traces by OpenTelemetry, when the standard variables ``OTEL_*`` ask for them.

Without these variables nothing is imported, and each function here returns at once. With them, ``trace_export`` sends the
spans. A call between services carries its span in the header ``traceparent`` (``call_context``), and a stage gets that of
its round by the variable ``TRACEPARENT``: so a round, its stages, their searches and the calls of each are one trace.

The interceptors of opentelemetry-instrumentation-grpc (0.66) are not used. That of the server iterates over each stream
and fails for ``Solve``, which writes its stream; that of the client leaves the span open, and the call running, when its
task is cancelled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rstar.rpc.spans import Attribute, Kind, Span, round_trace

if TYPE_CHECKING:
    from rstar.rpc.trace_export import Exporter

TRACEPARENT: Final = "TRACEPARENT"
"""The variable with the span that a stage's span is a child of, in the format of W3C Trace Context."""

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables with the address of a collector; one of them is enough to ask for traces."""

_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class TracingError(ValueError):
    """The environment asks for traces in a way that this process cannot provide. The message is one sentence."""


_NONE: Final = Span()
_exporter: Exporter | None = None


def asked(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether ``environment`` asks for traces. Raises ``TracingError`` for what is not supported."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    if not exporter and not any(environment.get(name) for name in ENDPOINTS):
        return False
    if exporter not in {"", "otlp", "console"}:
        raise TracingError(f"OTEL_TRACES_EXPORTER is {exporter!r}: use otlp, console or none")
    name, protocol = next(((name, environment[name]) for name in _PROTOCOLS if environment.get(name)), ("", "grpc"))
    if protocol != "grpc" and exporter != "console":
        raise TracingError(
            f"{name} is {protocol!r}: traces are sent by grpc alone; set it to grpc, with the port for it"
        )
    return True


def start(service: str, *, joins: bool = False) -> None:
    """Export the spans of this process under the name ``rstar-SERVICE``, if the environment asks for it.

    ``joins``: spans without another parent are children of the one that ``TRACEPARENT`` names. Raises ``TracingError``.
    """
    global _exporter  # noqa: PLW0603 - one exporter per process
    stop()
    if not asked():
        return
    try:
        from rstar.rpc.trace_export import Exporter
    except ModuleNotFoundError as error:
        raise TracingError(
            f"the variables OTEL_* ask for traces, but {error.name} is not installed: install rstar-math[tracing], or "
            "set OTEL_TRACES_EXPORTER to none"
        ) from None
    _exporter = Exporter(service, os.environ.get(TRACEPARENT, "") if joins else "")


def stop() -> None:
    """Send the spans that are left, for a bounded time, and record no more."""
    global _exporter  # noqa: PLW0603
    if _exporter is not None:
        _exporter.close()
        _exporter = None


def is_on() -> bool:
    """Return whether this process records spans."""
    return _exporter is not None


def span(name: str, kind: Kind = "internal", headers: Mapping[str, str] | None = None, **attributes: Attribute) -> Span:
    """Return a span for a ``with`` statement: it is the parent of the spans that begin inside.

    ``headers``: metadata of a received call; its span is the parent.
    """
    return _NONE if _exporter is None else _exporter.span(name, kind, headers, attributes)


def begin(name: str, kind: Kind = "internal", **attributes: Attribute) -> Span:
    """Return a span that becomes nobody's parent by itself, for work in a generator. ``end`` ends it."""
    return _NONE if _exporter is None else _exporter.begin(name, kind, None, attributes)


def annotate(**attributes: Attribute) -> None:
    """Set attributes of the current span."""
    if _exporter is not None:
        _exporter.annotate(attributes)


def add_ids(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the current span to a log event (a processor of structlog)."""
    if _exporter is not None:
        event.update(_exporter.current_ids())
    return event


def stage_environment(identity: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of a stage that make it part of its round's trace; {} where no traces are asked for."""
    return {TRACEPARENT: round_trace(identity).traceparent} if asked(environment) else {}


def record_round(identity: str, name: str, began: datetime, ended: datetime, phase: str) -> None:
    """Record the span of a round that has ended. Twice is harmless: it has the same id."""
    if _exporter is not None:
        _exporter.record_round(round_trace(identity), name, began, ended, phase)

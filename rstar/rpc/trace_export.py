"""Spans by OpenTelemetry's SDK, to a collector by OTLP. Loaded only where traces are asked for (``tracing``).

A thread sends the spans in batches. While the collector cannot be reached, spans wait in a queue of bounded length and
are then dropped, with one warning per ten minutes in the log: the work itself never waits.

The sampler of ``OTEL_TRACES_SAMPLER`` is asked once per search, with a random number of its own: the trace of a round has
its stages, and the sampled share of its searches. Asked by trace id, it would take all searches of a round or none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rstar.rpc.spans import ROUND, SEARCH, Attribute, Headers, Kind, RoundTrace, Span

CLOSE_SECONDS: Final = 3.0
"""How long a process that ends may take to send its last spans."""

WARNING_SECONDS: Final = 600.0
"""Least time between two warnings that spans cannot be sent."""

_KINDS: Final[Mapping[Kind, trace.SpanKind]] = {
    "internal": trace.SpanKind.INTERNAL,
    "client": trace.SpanKind.CLIENT,
    "server": trace.SpanKind.SERVER,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_LOGGERS: Final = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")
_given_ids: ContextVar[RoundTrace | None] = ContextVar("given_ids", default=None)


class RecordedSpan(Span):
    """A span of the SDK. As a context manager it is the current one inside."""

    __slots__ = ("_span", "_token")

    def __init__(self, recorded: trace.Span) -> None:
        self._span = recorded
        self._token: Any = None

    def set(self, **attributes: Attribute) -> None:
        """Set attributes; their names get the prefix ``rstar.``."""
        self._span.set_attributes(_prefixed(attributes))

    def fail(self, reason: str) -> None:
        """Mark the work as failed."""
        self._span.set_status(trace.StatusCode.ERROR, reason)

    def end(self) -> None:
        """End the span; a second time does nothing."""
        if self._span.is_recording():
            self._span.end()

    def headers(self) -> Headers:
        """Return the metadata that make spans of a called service children of this one."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return tuple(carrier.items())

    @property
    def records(self) -> bool:
        """Whether the span is recorded: the sampler may have left it out."""
        return self._span.is_recording()

    def __enter__(self) -> RecordedSpan:
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, *raised: object) -> None:
        error = raised[1]
        otel_context.detach(self._token)
        if isinstance(error, asyncio.CancelledError):
            self.set(cancelled=True)
        elif isinstance(error, BaseException) and self._span.is_recording():
            self.fail(str(error) or type(error).__name__)
        self.end()


class Exporter:
    """Records the spans of one process. ``parent``: the ``traceparent`` of spans that have no other parent, or ''."""

    def __init__(self, service: str, parent: str) -> None:
        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: f"rstar-{service}"}
        # Else OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read by the SDK.
        chosen = TracerProvider(shutdown_on_exit=False).sampler  # it reads OTEL_TRACES_SAMPLER
        off = "always_off" in os.environ.get("OTEL_TRACES_SAMPLER", "")
        self._provider = TracerProvider(
            sampler=ALWAYS_OFF if off else SearchSampler(chosen),
            resource=Resource.create({**name, "rstar.pid": os.getpid()}),
            id_generator=_GivenIds(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(_span_exporter()))
        self._tracer = self._provider.get_tracer("rstar")
        self._parent = _PROPAGATOR.extract({"traceparent": parent}, Context()) if parent else Context()

    def span(
        self, name: str, kind: Kind, headers: Mapping[str, str] | None, attributes: Mapping[str, Attribute]
    ) -> Span:
        """Return a span for a ``with`` statement."""
        return self.begin(name, kind, headers, attributes)

    def begin(
        self, name: str, kind: Kind, headers: Mapping[str, str] | None, attributes: Mapping[str, Attribute]
    ) -> Span:
        """Return a span that has begun."""
        bound = structlog.contextvars.get_contextvars()
        ids: dict[str, Attribute] = {key: str(bound[key]) for key in ("round", "stage") if key in bound}
        current = otel_context.get_current()
        if headers is not None:
            parent = _PROPAGATOR.extract(headers, Context())
        elif trace.get_current_span(current).get_span_context().is_valid:
            parent = current
        else:
            parent = self._parent
        return RecordedSpan(
            self._tracer.start_span(name, parent, _KINDS[kind], attributes=_prefixed({**ids, **attributes}))
        )

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Set attributes of the current span."""
        trace.get_current_span().set_attributes(_prefixed(attributes))

    def current_ids(self) -> dict[str, str]:
        """Return trace_id and span_id of the current span, {} without one."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}

    def record_round(self, ids: RoundTrace, name: str, began: datetime, ended: datetime, phase: str) -> None:
        """Record the span of a round, with the ids that its stages know."""
        token = _given_ids.set(ids)
        try:
            attributes = _prefixed({"round": name, "phase": phase})
            span = self._tracer.start_span(ROUND, Context(), attributes=attributes, start_time=_nanoseconds(began))
        finally:
            _given_ids.reset(token)
        if phase != "Succeeded":
            span.set_status(trace.StatusCode.ERROR, phase)
        span.end(_nanoseconds(ended))

    def close(self) -> None:
        """Send the spans that are left, for at most ``CLOSE_SECONDS``."""
        # In a thread: a collector that does not answer would delay the end of the process by its own timeouts.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)


class SearchSampler(Sampler):
    """Asks the sampler ``chosen`` for each search and each span without a parent; the others do as their parent.

    Rounds are recorded, and so their stages are.
    """

    def __init__(self, chosen: Sampler) -> None:
        self._chosen = chosen
        self._with_parent = ParentBased(chosen)
        self._random = RandomIdGenerator()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Return whether the span is recorded."""
        sampler: Sampler = ALWAYS_ON if name == ROUND else self._with_parent
        if name == SEARCH:
            sampler, parent_context, trace_id = self._chosen, Context(), self._random.generate_trace_id()
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Describe the sampler."""
        return f"searches by {self._chosen.get_description()}"


class _GivenIds(RandomIdGenerator):
    """Random ids, but for the span of a round."""

    def generate_trace_id(self) -> int:
        ids = _given_ids.get()
        return super().generate_trace_id() if ids is None else int(ids.trace_id, 16)

    def generate_span_id(self) -> int:
        ids = _given_ids.get()
        return super().generate_span_id() if ids is None else int(ids.span_id, 16)


class _RarelyLogged(logging.Filter):
    """Lets one warning through per ``WARNING_SECONDS``."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + WARNING_SECONDS
        return True


def _span_exporter() -> SpanExporter:
    if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
        # Standard output is for results.
        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
    rarely = _RarelyLogged()
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.filters = [kept for kept in logger.filters if not isinstance(kept, _RarelyLogged)]
        logger.addFilter(rarely)
    return OTLPSpanExporter()


def _prefixed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"rstar.{name}": value for name, value in attributes.items()}


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)

"""A collector of spans on loopback: OTLP over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Seen:
    """A span that arrived; ``attributes`` without the prefix ``rstar.``."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    seconds: float


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that arrived."""

    address: str = ""
    spans: list[Seen] = field(default_factory=list)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names it
        """Keep the spans of a batch."""
        for of_process in request.resource_spans:
            service = _attributes(of_process.resource.attributes)["service.name"]
            for scope in of_process.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            service,
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            {k.removeprefix("rstar."): v for k, v in _attributes(span.attributes).items()},
                            span.status.code == 2,
                            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        )
                    )
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Seen]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def parent_of(self, span: Seen) -> Seen:
        """Return the parent of a span."""
        [parent] = [other for other in self.spans if other.span_id == span.parent]
        assert parent.trace_id == span.trace_id
        return parent


def _attributes(pairs: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {pair.key: plain(pair.value) for pair in pairs}


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    running = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(running, server)
    running.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield running
    finally:
        server.stop(0).wait()

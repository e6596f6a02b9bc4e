"""What every call carries besides its request: the ids for logs, and the span for traces.

The ids (round, stage, problem, node) travel in the header ``baggage`` in W3C's format, so that the log of a policy, a PPM
or an executor names the search for which it works. They are for people alone: no decision reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import grpc
import structlog

from rstar.interfaces import State
from rstar.rpc import tracing
from rstar.rpc.spans import Headers, Span

IDS: Final = ("round", "stage", "problem_id", "node")
"""The ids, as logs name them. A node is named by its depth and by a digest of the steps up to it."""

HEADER: Final = "baggage"
_PREFIX: Final = "rstar."
_LONGEST: Final = 256
"""Characters of one id; the rest is cut."""


def ids_of(state: State) -> dict[str, str]:
    """Return the ids of a state: its problem and its node.

    >>> ids_of(State("p1", "?"))
    {'problem_id': 'p1', 'node': '0'}
    """
    return {"problem_id": state.problem_id, "node": node_id(state.steps)}


def node_id(steps: Sequence[str]) -> str:
    """Return the id of the node that ``steps`` lead to: ``0`` for the root, else depth and digest, as ``2-1f0c6a3b``."""
    if not steps:
        return "0"
    return f"{len(steps)}-{hashlib.sha256(''.join(steps).encode(errors='replace')).hexdigest()[:8]}"


def outgoing(span: Span, ids: Mapping[str, str]) -> Headers:
    """Return the metadata of a call: ``ids``, those that are bound here, and the span."""
    bound = structlog.contextvars.get_contextvars()
    known = {name: str(bound[name]) for name in IDS if name in bound} | dict(ids)
    members = [f"{_PREFIX}{name}={quote(value[:_LONGEST], errors='replace')}" for name, value in known.items() if value]
    return (*(((HEADER, ",".join(members)),) if members else ()), *span.headers())


def read_ids(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of a received call; unknown members are skipped."""
    found = {}
    for member in metadata.get(HEADER, "").split(","):
        name, _, value = member.partition(";")[0].strip().partition("=")
        if (key := name.removeprefix(_PREFIX)) in IDS and name.startswith(_PREFIX):
            found[key] = unquote(value)[:_LONGEST]
    return found


class CallContext(grpc.aio.ServerInterceptor):
    """Binds the ids of each call for its logs, and records its span."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of a call. gRPC runs it in the same task, which no other call shares."""
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        if ids := read_ids(metadata):
            structlog.contextvars.bind_contextvars(**ids)
        return _traced(handler, details.method.removeprefix("/"), metadata, ids) if tracing.is_on() else handler


def _traced(handler: Any, method: str, metadata: Mapping[str, str], ids: Mapping[str, str]) -> Any:
    """Return ``handler`` with a span around it: one that returns its answer, or one that writes its stream."""
    work = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with tracing.span(method, "server", metadata, **ids) as span:
            try:
                return await work(request, context)
            except grpc.aio.AbortError:
                span.fail(context.details() or "aborted")
                raise

    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(traced, handler.request_deserializer, handler.response_serializer)

"""What a span is, for those who record spans and those who send them: names, kinds, attributes and ids.

``rstar.rpc.tracing`` begins spans; ``rstar.rpc.trace_export`` sends them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

ROUND: Final = "round"
SEARCH: Final = "search"
"""The names of the spans of a round and of a search."""

Kind = Literal["internal", "client", "server"]
Attribute = str | int | float | bool | Sequence[str]
Headers = tuple[tuple[str, str], ...]


class Span:
    """One piece of work. This class records nothing; with tracing on, ``span`` and ``begin`` return another kind."""

    __slots__ = ()

    def set(self, **attributes: Attribute) -> None:
        """Set attributes; their names get the prefix ``rstar.``."""

    def fail(self, reason: str) -> None:
        """Mark the work as failed."""

    def end(self) -> None:
        """End a span that ``begin`` returned; a second time does nothing."""

    def headers(self) -> Headers:
        """Return the metadata that make spans of a called service children of this one."""
        return ()

    @property
    def records(self) -> bool:
        """Whether the span is recorded."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class RoundTrace:
    """The ids of a round's trace and of its first span, in hex."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """The value of ``TRACEPARENT`` (``rstar.rpc.tracing``) for a stage of the round."""
        return f"00-{self.trace_id}-{self.span_id}-01"


def round_trace(identity: str) -> RoundTrace:
    """Return the ids for a round. All its stages and attempts get the same ones, also after a restart of the driver.

    ``identity``: what no other round has: the uid of its object, or its store and its name.
    """
    digest = hashlib.sha256(f"rstar round {identity}".encode()).hexdigest()
    return RoundTrace(digest[:32], digest[32:48])

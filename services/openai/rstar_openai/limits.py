"""Limits of one API key as token buckets. Pure decisions: the caller gives the clock, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may do; None: no limit.

    ``at_once`` bounds its requests in progress, ``requests`` its requests and ``tokens`` its generated tokens per minute.
    """

    at_once: int | None = None
    requests: int | None = None
    tokens: int | None = None


@dataclass(slots=True)
class TokenBucket:
    """A bucket of ``per_minute`` units that is filled evenly; ``level`` may be negative after a charge."""

    per_minute: float
    level: float
    at: float

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until the bucket holds ``amount``; 0: it does now."""
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / MINUTE)
        self.at = now
        return max(0.0, (amount - self.level) * MINUTE / self.per_minute)

    def charge(self, amount: float) -> None:
        """Take ``amount``, even where the bucket holds less: the next request then waits longer."""
        self.level -= amount


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, and after how many seconds another may be taken."""

    reason: str
    retry_after: float


class KeyUse:
    """The use of one key. Tokens are known only when they are generated, so they are charged afterwards."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._running = 0
        self._requests = TokenBucket(limits.requests, limits.requests, now) if limits.requests else None
        self._tokens = TokenBucket(limits.tokens, limits.tokens, now) if limits.tokens else None

    def begin(self, now: float) -> Refusal | None:
        """Count a request that begins, or return why it may not. ``end`` belongs to every request that began."""
        limits = self._limits
        if limits.at_once is not None and self._running >= limits.at_once:
            return Refusal(f"this key may have {limits.at_once} requests in progress", 1.0)
        if self._tokens is not None and (wait := self._tokens.wait(now, 1)) > 0:
            return Refusal(f"this key may have {limits.tokens} tokens generated per minute", wait)
        if self._requests is not None:
            if (wait := self._requests.wait(now, 1)) > 0:
                return Refusal(f"this key may send {limits.requests} requests per minute", wait)
            self._requests.charge(1)
        self._running += 1
        return None

    def end(self, now: float, tokens: int) -> None:
        """Count the end of a request that generated ``tokens``."""
        self._running -= 1
        if self._tokens is not None:
            self._tokens.wait(now, 0)
            self._tokens.charge(tokens)

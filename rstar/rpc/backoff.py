"""How long an executor gets no calls after it failed or asked for a pause: pure arithmetic on plain data.

Each failure in a row doubles the backoff; an answer ends it. Of several calls in progress when an executor fails, only
the first failure counts: the others were sent before the client knew of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 10.0
"""Longest backoff that failures alone give; an executor may ask for a longer one."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The executor gets no calls for ``seconds`` from ``since`` on, after ``failures`` in a row.

    The result of a call that was sent before ``since`` changes nothing. The length is stored and not the end, because a
    sum of clock times is rounded: a length computed back from it may exceed its bound.
    """

    failures: int = 0
    since: float = -math.inf
    seconds: float = 0.0

    @property
    def until(self) -> float:
        """The time from which the executor gets calls again."""
        return self.since + self.seconds

    def remaining(self, now: float) -> float:
        """Return how many seconds are left, never more than ``seconds``; negative after the end."""
        return min(self.until - now, self.seconds)


NO_BACKOFF: Final = Backoff()


def backoff_after_failure(backoff: Backoff, sent: float, now: float, roll: float) -> Backoff:
    """Return the backoff after a call that was sent at ``sent`` failed; ``roll`` in [0, 1) spreads clients apart."""
    if sent < backoff.since:
        return backoff
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(backoff.failures, 32))
    return Backoff(backoff.failures + 1, now, max(backoff.remaining(now), longest * (0.5 + roll / 2)))


def backoff_after_pushback(backoff: Backoff, now: float, seconds: float) -> Backoff:
    """Return the backoff after the executor asked for ``seconds`` without calls. This counts as no failure: it is healthy."""
    return Backoff(backoff.failures, now, max(backoff.remaining(now), seconds))


def backoff_after_answer(backoff: Backoff, sent: float) -> Backoff:
    """Return the backoff after the executor answered a call that was sent at ``sent``."""
    return backoff if sent < backoff.since else NO_BACKOFF

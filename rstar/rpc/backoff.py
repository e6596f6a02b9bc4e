"""How long a server that failed, or that asked for patience, is left alone: pure arithmetic on plain data.

A failure lets a server rest, twice as long each time it fails again; an answer wakes it. Of many calls under way when
a server fails, the first to fail counts: the others were sent before anybody knew. The module refuses to know why a
call failed (``rstar.rpc.call_failures``) and which server gets the next one (``rstar.rpc.dispatch``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Rest:
    """``failures`` in a row; it rests ``until``, and what was sent before ``since`` tells nothing new about it."""

    failures: int = 0
    since: float = -math.inf
    until: float = -math.inf


AWAKE: Final = Rest()


def after_failure(rest: Rest, sent: float, now: float, roll: float) -> Rest:
    """Return the rest of a server that failed a call of ``sent``; ``roll`` in [0, 1) spreads clients apart."""
    if sent < rest.since:
        return rest
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(rest.failures, 32))
    return Rest(rest.failures + 1, now, max(rest.until, now + longest * (0.5 + roll / 2)))


def after_refusal(rest: Rest, now: float, seconds: float) -> Rest:
    """Return the rest of a server that asked to be left alone for ``seconds``: it is well, so no failure is counted."""
    return Rest(rest.failures, now, max(rest.until, now + seconds))


def after_answer(rest: Rest, sent: float) -> Rest:
    """Return the rest of a server that answered a call of ``sent``."""
    return rest if sent < rest.since else AWAKE

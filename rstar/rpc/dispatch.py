"""Which server gets a call: pure decisions over what is known of the servers.

Executors take the call where the fewest are outstanding, or a few more where the problem's interpreters rest; one
that failed is passed over for a while. Model servers keep every call of a problem on one server, for its prefix
cache: rendezvous hashing (the highest random weight wins, so that a new server takes only its own share of the
problems) with bounded load (a server far above the mean is passed over, after Mirrokni et al., "Consistent Hashing
with Bounded Loads"). The module refuses to know what a connection is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from typing import Final, Protocol, TypeVar

from rstar.rpc.backoff import Rest

LOAD_BOUND: Final = 1.25
"""A server takes a problem's call while it would then have at most this many times the mean load."""


class Loaded(Protocol):
    """What a decision looks at: a name that stays, and the calls outstanding."""

    @property
    def address(self) -> str:
        """The server's address: its identity for the hash."""
        ...

    @property
    def outstanding(self) -> int:
        """Calls sent and not yet answered."""
        ...


class Watched(Loaded, Protocol):
    """What more there is to see of an executor."""

    @property
    def rest(self) -> Rest:
        """How long it is left alone."""
        ...

    @property
    def trying(self) -> bool:
        """Whether a suspect runs on it, which should be the only one there."""
        ...


B = TypeVar("B", bound=Loaded)
W = TypeVar("W", bound=Watched)

Choice = Callable[[Sequence[B]], B]
"""Chooses one of the servers that are ready (at least one)."""


def least_outstanding(backends: Sequence[B], turn: int = 0) -> B:
    """Return the backend with the fewest calls outstanding; among equals the first from position ``turn`` on."""
    start = turn % len(backends)
    best = backends[start]
    for backend in (*backends[start + 1 :], *backends[:start]):
        if backend.outstanding < best.outstanding:
            best = backend
    return best


def awake(
    backends: Sequence[W], now: float, avoid: Collection[str], alone: bool, turn: int, key: str = ""
) -> W | float:
    """Return one of the least loaded of the backends that do not rest, or the seconds until the first of them wakes.

    The calls of ``key`` go to one of them, which still has the interpreters of its steps, while its load allows.

    None of ``avoid`` where there is a choice. ``alone``: the call carries a suspect, and two suspects never share a
    backend, for of two that are lost with it nobody could tell which it was. Infinity: nothing but a change helps.
    """
    up = [backend for backend in backends if backend.rest.until <= now]
    up = [backend for backend in up if backend.address not in avoid] or up
    free = [backend for backend in up if not (alone and backend.trying)]
    if free:
        least = least_outstanding(free, turn)
        if not key or alone:
            return least
        home = max(free, key=partial(_weight_of, key))
        return home if home.outstanding <= least.outstanding + max(1, least.outstanding // 4) else least
    return min((backend.rest.until - now for backend in backends if backend.rest.until > now), default=math.inf)


def may_hedge(hedges: int, calls: int) -> bool:
    """Say whether one more call may be doubled: one in ten, so that executors that are slow are not made slower."""
    return hedges < 1 + calls // 10


def rendezvous(key: str, backends: Sequence[B]) -> B:
    """Return the backend of ``key`` by highest random weight, but one within the load bound.

    A backend is within it when, this call included, it has at most ``ceil(LOAD_BOUND * mean)`` outstanding; so a
    lone call always goes to the key's first choice.
    """
    if len(backends) == 1:
        return backends[0]
    total = sum(backend.outstanding for backend in backends) + 1
    bound = max(1, math.ceil(LOAD_BOUND * total / len(backends)))
    within = [backend for backend in backends if backend.outstanding < bound]
    # Never empty: not every backend can be above the mean.
    return max(within, key=partial(_weight_of, key))


def _weight_of(key: str, backend: Loaded) -> bytes:
    return _weight(key.encode("utf-8", "surrogatepass"), backend.address)


def _weight(key: bytes, address: str) -> bytes:
    return hashlib.blake2b(key, digest_size=8, person=b"rendezvous", salt=_salt(address)).digest()


@lru_cache(maxsize=4_096)
def _salt(address: str) -> bytes:
    return hashlib.blake2b(address.encode(), digest_size=16).digest()

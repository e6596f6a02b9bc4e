"""Chooses the server for a call: pure decisions on what a client knows of the servers.

Executors: the one with the fewest outstanding calls, or one with a few more that keeps the snapshots of the problem; an
executor in backoff is skipped. Model servers: all calls of a problem go to one server, for its prefix cache. Rendezvous
hashing (highest random weight) moves only a new server's own share of the problems, and bounded load skips a server
far above the mean (after Mirrokni et al., "Consistent Hashing with Bounded Loads").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from functools import lru_cache, partial
from typing import Final, Protocol, TypeVar

from rstar.rpc.backoff import Backoff

LOAD_BOUND: Final = 1.25
"""A server takes a call of its problem while it would then have at most this many times the mean load."""


class LoadedServer(Protocol):
    """A server with a fixed name and a load."""

    @property
    def address(self) -> str:
        """The server's address: its identity for the hash."""
        ...

    @property
    def outstanding(self) -> int:
        """Calls sent and not yet answered."""
        ...


class ExecutorServer(LoadedServer, Protocol):
    """An executor: a server that may be in backoff or reserved for a suspect."""

    @property
    def backoff(self) -> Backoff:
        """How long it gets no calls."""
        ...

    @property
    def runs_suspect(self) -> bool:
        """Whether a suspect runs on it; a second one must not."""
        ...


S = TypeVar("S", bound=LoadedServer)
E = TypeVar("E", bound=ExecutorServer)


def least_outstanding(servers: Sequence[S], turn: int = 0) -> S:
    """Return the server with the fewest outstanding calls; among equals the first from position ``turn`` on."""
    start = turn % len(servers)
    best = servers[start]
    for server in (*servers[start + 1 :], *servers[:start]):
        if server.outstanding < best.outstanding:
            best = server
    return best


def choose_available(
    executors: Sequence[E], now: float, avoid: Collection[str], suspect: bool, turn: int, problem_id: str = ""
) -> E | float:
    """Return the executor for a call, or the seconds until the first backoff ends when none is available now.

    The least loaded executor is chosen, or the one that keeps the snapshots of ``problem_id`` while its load allows.
    Addresses in ``avoid`` are used only where nothing else is available. ``suspect``: the call carries a suspect. Two
    suspects never share an executor: if it is lost, it is unknown which of them killed it. Infinity: no backoff is
    running, so waiting helps only if something else changes.
    """
    available = [executor for executor in executors if executor.backoff.until <= now]
    available = [executor for executor in available if executor.address not in avoid] or available
    free = [executor for executor in available if not (suspect and executor.runs_suspect)]
    if free:
        least = least_outstanding(free, turn)
        if not problem_id or suspect:
            return least
        home = max(free, key=partial(_weight_of, problem_id))
        return home if home.outstanding <= least.outstanding + max(1, least.outstanding // 4) else least
    return min(
        (executor.backoff.until - now for executor in executors if executor.backoff.until > now), default=math.inf
    )


def rendezvous(problem_id: str, servers: Sequence[S]) -> S:
    """Return the server of ``problem_id``: the highest random weight among the servers within the load bound.

    A server is within the bound if, with this call, it has at most ``ceil(LOAD_BOUND * mean)`` outstanding calls. So a
    lone call always goes to the first choice of its problem.
    """
    if len(servers) == 1:
        return servers[0]
    total = sum(server.outstanding for server in servers) + 1
    bound = max(1, math.ceil(LOAD_BOUND * total / len(servers)))
    within = [server for server in servers if server.outstanding < bound]
    # Never empty: not every server can be above the mean.
    return max(within, key=partial(_weight_of, problem_id))


def _weight_of(problem_id: str, server: LoadedServer) -> bytes:
    return _weight(problem_id.encode("utf-8", "surrogatepass"), server.address)


def _weight(key: bytes, address: str) -> bytes:
    return hashlib.blake2b(key, digest_size=8, person=b"rendezvous", salt=_salt(address)).digest()


@lru_cache(maxsize=4_096)
def _salt(address: str) -> bytes:
    return hashlib.blake2b(address.encode(), digest_size=16).digest()

"""Operators that are killed after a write, or that see the past: one per round, all in one process.

Each round of a namespace has a reconciler of its own, driven by one watch. To kill it is to forget it in the middle of
a pass, right after the server has answered a write and before the answer is used; what starts in its place lists
the round anew, as a restarted operator does. ``crashes`` does the same to a real process.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from rstar_operator.cache import CHILDREN, Cache
from rstar_operator.configuration import Configuration
from rstar_operator.reconcile import Pass, Reconciler
from rstar_operator.snapshot import RoundSnapshot

from rstar.cluster.api import DEPLOYMENTS, ROUNDS, Cluster, ClusterError, ConflictError, Json
from rstar.cluster.names import EXECUTOR_SERVICE, ROUND
from tests.support.cluster.endings import anonymous
from tests.support.cluster.operating import reconciler_of
from tests.support.cluster.proxy import Answered

_BELATED: Final = 0.5
"""How often the past is seen: always, and a round would hardly get on."""


class KilledError(Exception):
    """The operator of a round was killed right after a write."""


@dataclass(frozen=True, slots=True)
class Target:
    """The ``turn``-th time that something is written: statuses and Events repeat, everything else is told by its name."""

    method: str
    kind: str
    name: str
    turn: int


def targets(writes: Iterable[Answered], round_name: str) -> list[Target]:
    """Return the writes of a round's operators as targets that fit every round."""
    found: list[Target] = []
    for write in writes:
        # What an Event is called depends on the round's uid.
        name = "" if write.kind == "events" else anonymous(write.name, round_name)
        turn = sum((t.method, t.kind, t.name) == (write.method, write.kind, name) for t in found)
        found.append(Target(write.method, write.kind, name, turn + 1))
    return found


class CountingCluster(Cluster):
    """A cluster that keeps the writes it has answered for a round; the answers to ``kill_after`` kill the caller."""

    def __init__(self, inner: Cluster, round_name: str, kill_after: Collection[Target] = ()) -> None:
        super().__init__(inner._client)
        self.writes: list[Answered] = []
        self.killed: list[Target] = []
        self._round_name = round_name
        self._kill_after = kill_after

    def _request(self, method: str, path: str, *, body: Json | None = None, query: Mapping[str, str] = {}) -> Json:
        code = 200
        try:
            return super()._request(method, path, body=body, query=query)
        except ClusterError as error:
            code = error.code
            raise
        finally:
            if method != "GET" and code:
                self.writes.append(Answered.read(method, path, body, code))
                now = targets(self.writes, self._round_name)[-1]
                if now in self._kill_after:
                    self.killed.append(now)
                    raise KilledError


class Injection:
    """The reconciler of a namespace in which every round has an operator of its own.

    ``kill_after``: the writes after which the operator of a round is killed; operators of rounds not in it live.
    """

    def __init__(self, kill_after: Mapping[str, Collection[Target]] = MappingProxyType({})) -> None:
        self._kill_after = kill_after
        self._clusters: dict[str, CountingCluster] = {}
        self._reconcilers: dict[str, Reconciler] = {}

    def __call__(self, cluster: Cluster, configuration: Configuration, cache: Cache) -> Injection:
        """Be what makes the passes of an operator."""
        self._inner, self._configuration, self._cache = cluster, configuration, cache
        return self

    def writes(self, name: str) -> list[Answered]:
        """Return the writes of a round's operators so far."""
        return self._cluster(name).writes

    def killed(self, name: str) -> list[Target]:
        """Return the writes that have killed an operator of a round so far."""
        return self._cluster(name).killed

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        """Make a pass as the round's own operator; the first one of an operator is on what it lists."""
        name = snapshot.round["metadata"]["name"]
        if name not in self._reconcilers:
            self._reconcilers[name] = reconciler_of(self._cluster(name), self._configuration, self._cache)
            snapshot = listed(self._inner, snapshot.round["metadata"]["namespace"], name) or snapshot
        try:
            return self._reconcilers[name].reconcile(snapshot)
        except KilledError:
            del self._reconcilers[name]
            return Pass("", timedelta())

    def _cluster(self, name: str) -> CountingCluster:
        if name not in self._clusters:
            self._clusters[name] = CountingCluster(self._inner, name, self._kill_after.get(name, ()))
        return self._clusters[name]


class Belated:
    """The reconciler of a namespace that often sees the past: every part of a snapshot as of up to ``most`` writes ago.

    The parts come by watches of their own, so each has a lag of its own. Now and then a pass is made on the past, then
    on a nearer past, and then on what is known now.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.refused = 0
        self.made = 0
        self._most = most
        self._random = random.Random(seed)
        self._pasts: dict[str, _Past] = {}

    def __call__(self, cluster: Cluster, configuration: Configuration, cache: Cache) -> Belated:
        """Be what makes the passes of an operator."""
        self._inner, self._configuration, self._cache = cluster, configuration, cache
        return self

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        """Make a pass, perhaps after some on what was."""
        past = self._past(snapshot.round["metadata"]["name"])
        past.views.append((len(past.cluster.writes), snapshot))
        if self._random.random() < _BELATED:
            for most in (self._most, self._most // 2):
                self.made += 1
                try:
                    past.reconciler.reconcile(self._as_it_was(past, most))
                except ConflictError:
                    self.refused += 1
        return past.reconciler.reconcile(snapshot)

    def _past(self, name: str) -> _Past:
        if name not in self._pasts:
            cluster = CountingCluster(self._inner, name)
            self._pasts[name] = _Past(cluster, reconciler_of(cluster, self._configuration, self._cache), [])
        return self._pasts[name]

    def _as_it_was(self, past: _Past, most: int) -> RoundSnapshot:
        written = len(past.cluster.writes)
        seen: dict[str, Any] = {}
        for part in fields(RoundSnapshot):
            oldest = written - self._random.randint(0, most)
            # The last that was known when that many writes had been made.
            view = next((view for count, view in reversed(past.views) if count <= oldest), past.views[0][1])
            seen[part.name] = getattr(view, part.name)
        return RoundSnapshot(**seen)


@dataclass(frozen=True, slots=True)
class _Past:
    """A round's operator, and all that it has seen with the number of its writes at that time."""

    cluster: CountingCluster
    reconciler: Reconciler
    views: list[tuple[int, RoundSnapshot]]


def listed(cluster: Cluster, namespace: str, name: str) -> RoundSnapshot | None:
    """Return a round's snapshot as the API server has it now."""
    cache = Cache()
    for kind in CHILDREN:
        for body in cluster.list(kind, namespace, f"{ROUND}={name}"):
            cache.put(kind, body)
    for kind, single in ((ROUNDS, name), (DEPLOYMENTS, EXECUTOR_SERVICE)):
        if (found := cluster.get(kind, namespace, single)) is not None:
            cache.put(kind, found)
    return cache.snapshot((namespace, name))

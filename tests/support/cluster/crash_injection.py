"""Operators that are killed after a write, or that read stale state: one per round, all in one process.

Each round of a namespace has a reconciler of its own, driven by one watch. A kill discards it in the middle of a pass, after
the server has answered a write and before the answer is used; its successor lists the round again, as a restarted operator
does. ``crashes`` does the same to a real process.
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

from rstar.cluster.api import DEPLOYMENTS, ROUNDS, TRAINING_RUNTIMES, Cluster, ClusterError, ConflictError, Json, Kind
from rstar.cluster.names import EXECUTOR_SERVICE, ROUND
from tests.support.cluster.operators import reconciler_of
from tests.support.cluster.outcomes import without_name
from tests.support.cluster.proxy import AnsweredWrite

_STALE_SHARE: Final = 0.5
"""The share of passes that are preceded by stale ones: with all of them a round would hardly advance."""


class KilledError(Exception):
    """The operator of a round was killed right after a write."""


@dataclass(frozen=True, slots=True)
class Write:
    """The ``turn``-th write of an object: statuses and Events repeat, every other write is identified by the name."""

    method: str
    kind: str
    name: str
    turn: int


def numbered_writes(writes: Iterable[AnsweredWrite], round_name: str) -> list[Write]:
    """Return the writes of a round's operators in a form that is the same for every round."""
    found: list[Write] = []
    for write in writes:
        # The name of an Event depends on the round's uid.
        name = "" if write.kind == "events" else without_name(write.name, round_name)
        if write.kind == TRAINING_RUNTIMES.plural:
            # The digest in its name is one of the round, with its name.
            name = name.rpartition("-")[0]
        turn = sum((t.method, t.kind, t.name) == (write.method, write.kind, name) for t in found)
        found.append(Write(write.method, write.kind, name, turn + 1))
    return found


class RecordingCluster(Cluster):
    """A client that records a round's answered writes, and kills its operator after those in ``kill_after``."""

    def __init__(self, inner: Cluster, round_name: str, kill_after: Collection[Write] = ()) -> None:
        super().__init__(inner._client)
        self.writes: list[AnsweredWrite] = []
        self.killed: list[Write] = []
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
                self.writes.append(AnsweredWrite.read(method, path, body, code))
                now = numbered_writes(self.writes, self._round_name)[-1]
                if now in self._kill_after:
                    self.killed.append(now)
                    raise KilledError


class CrashInjector:
    """The reconciler of a namespace in which every round has an operator of its own.

    ``kill_after``: by round, the writes after which its operator is killed.
    """

    def __init__(self, kill_after: Mapping[str, Collection[Write]] = MappingProxyType({})) -> None:
        self._kill_after = kill_after
        self._clusters: dict[str, RecordingCluster] = {}
        self._reconcilers: dict[str, Reconciler] = {}

    def __call__(self, cluster: Cluster, configuration: Configuration, cache: Cache) -> CrashInjector:
        """Become the reconciler of an operator."""
        self._inner, self._configuration, self._cache = cluster, configuration, cache
        return self

    def writes(self, name: str) -> list[AnsweredWrite]:
        """Return the writes of a round's operators so far."""
        return self._cluster(name).writes

    def killed(self, name: str) -> list[Write]:
        """Return the writes that have killed an operator of a round so far."""
        return self._cluster(name).killed

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        """Make a pass as the round's own operator. Its first pass is on a snapshot that it lists itself."""
        name = snapshot.round["metadata"]["name"]
        if name not in self._reconcilers:
            self._reconcilers[name] = reconciler_of(self._cluster(name), self._configuration, self._cache)
            snapshot = self._listed(snapshot, name) or snapshot
        try:
            return self._reconcilers[name].reconcile(snapshot)
        except KilledError:
            del self._reconcilers[name]
            return Pass("", timedelta())

    def _listed(self, snapshot: RoundSnapshot, name: str) -> RoundSnapshot | None:
        namespace = snapshot.round["metadata"]["namespace"]
        return list_snapshot(self._inner, namespace, name, self._cache.training)

    def _cluster(self, name: str) -> RecordingCluster:
        if name not in self._clusters:
            self._clusters[name] = RecordingCluster(self._inner, name, self._kill_after.get(name, ()))
        return self._clusters[name]


class StaleReader:
    """The reconciler of a namespace that often gets stale snapshots: each part is up to ``most`` writes old.

    Each part comes from a watch of its own, so each has its own lag. Half of the passes are preceded by one on an old
    snapshot and one on a less old snapshot.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.refused = 0
        self.made = 0
        self._most = most
        self._random = random.Random(seed)
        self._histories: dict[str, _History] = {}

    def __call__(self, cluster: Cluster, configuration: Configuration, cache: Cache) -> StaleReader:
        """Become the reconciler of an operator."""
        self._inner, self._configuration, self._cache = cluster, configuration, cache
        return self

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        """Make a pass, perhaps after some on stale snapshots."""
        history = self._history(snapshot.round["metadata"]["name"])
        history.views.append((len(history.cluster.writes), snapshot))
        if self._random.random() < _STALE_SHARE:
            for most in (self._most, self._most // 2):
                self.made += 1
                try:
                    history.reconciler.reconcile(self._stale_snapshot(history, most))
                except ConflictError:
                    self.refused += 1
        return history.reconciler.reconcile(snapshot)

    def _history(self, name: str) -> _History:
        if name not in self._histories:
            cluster = RecordingCluster(self._inner, name)
            self._histories[name] = _History(cluster, reconciler_of(cluster, self._configuration, self._cache), [])
        return self._histories[name]

    def _stale_snapshot(self, history: _History, most: int) -> RoundSnapshot:
        written = len(history.cluster.writes)
        seen: dict[str, Any] = {}
        for part in fields(RoundSnapshot):
            oldest = written - self._random.randint(0, most)
            # The latest snapshot from the time when that many writes had been made.
            view = next((view for count, view in reversed(history.views) if count <= oldest), history.views[0][1])
            seen[part.name] = getattr(view, part.name)
        return RoundSnapshot(**seen)


@dataclass(frozen=True, slots=True)
class _History:
    """A round's operator, and its snapshots so far, each with the number of its writes at that time."""

    cluster: RecordingCluster
    reconciler: Reconciler
    views: list[tuple[int, RoundSnapshot]]


def list_snapshot(cluster: Cluster, namespace: str, name: str, training: tuple[Kind, ...]) -> RoundSnapshot | None:
    """Return a round's snapshot, listed from the API server. ``training``: the kinds of its backend."""
    cache = Cache(training)
    for kind in (*training, *CHILDREN):
        for body in cluster.list(kind, namespace, f"{ROUND}={name}"):
            cache.put(kind, body)
    for kind, single in ((ROUNDS, name), (DEPLOYMENTS, EXECUTOR_SERVICE)):
        if (found := cluster.get(kind, namespace, single)) is not None:
            cache.put(kind, found)
    return cache.snapshot((namespace, name))

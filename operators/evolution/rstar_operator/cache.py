"""The operator's copy of the objects that it watches, so that reading a round costs the API server nothing.

The watch, the answers to our own writes, and periodic full lists fill it in any order: the newer of two versions of an
object is kept. The cache may lag behind the API server; ``reconcile`` explains why that does no harm.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from rstar.cluster.api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVOLUTIONS,
    JOBS,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    SCALED_OBJECTS,
    SERVICES,
    Json,
    Kind,
)
from rstar.cluster.names import EXECUTOR_SERVICE, PART_OF, ROUND, cleanup_name
from rstar.rounds.evolution_spec import LABEL
from rstar_operator.snapshot import EvolutionSnapshot, RoundSnapshot, in_order, name_of, owned

CHILDREN: Final = (DEPLOYMENTS, SERVICES, AUTOSCALERS, SCALED_OBJECTS, CONFIG_MAPS, JOBS, PODS)
"""The kinds of children without those of the training backend."""
ROOTS: Final = (EVOLUTIONS, ROUNDS)
"""The kinds that users create: watched without a selector."""
CHILDREN_SELECTOR: Final = f"{PART_OF}=rstar"

NamespacedName = tuple[str, str]
"""Namespace and name of an object."""


class Cache:
    """The watched objects by kind, namespace and name. Safe to share between threads.

    ``training``: the kinds of the training backend, first that of the jobs, then that of what they need.
    """

    def __init__(self, training: Sequence[Kind] = (PYTORCH_JOBS,)) -> None:
        self.training = tuple(training)
        self.watched = (*ROOTS, *self.training, *CHILDREN)
        self._lock = threading.Lock()
        self._bodies: dict[Kind, dict[NamespacedName, Json]] = {kind: {} for kind in self.watched}
        self._by_round: dict[tuple[Kind, NamespacedName], set[NamespacedName]] = defaultdict(set)

    def put(self, kind: Kind, body: Json) -> None:
        """Keep an object, unless the cache has a newer version of it."""
        with self._lock:
            self._put(kind, body)

    def remove(self, kind: Kind, body: Json) -> None:
        """Drop an object, unless the cache has another object of its name by now."""
        with self._lock:
            key = _key(body)
            found = self._bodies[kind].get(key)
            if found is not None and found["metadata"]["uid"] == body["metadata"]["uid"]:
                self._drop(kind, key)

    def replace(self, kind: Kind, namespace: str, bodies: Iterable[Json], version: str) -> set[NamespacedName]:
        """Take a full list of one namespace ('': all) as of ``version``; return the rounds whose objects it changed."""
        changed = set[NamespacedName]()
        with self._lock:
            listed = {_key(body): body for body in bodies}
            for key, body in list(self._bodies[kind].items()):
                mine = not namespace or key[0] == namespace
                if mine and key not in listed and _version(body) <= int(version):
                    self._drop(kind, key)
                    changed |= _rounds_of(kind, body)
            for body in listed.values():
                if self._put(kind, body):
                    changed |= _rounds_of(kind, body)
        return changed

    def affected(self, kind: Kind, body: Json) -> set[NamespacedName]:
        """Return the rounds that must be reconciled when this object changes."""
        namespace, name = _key(body)
        found = _rounds_of(kind, body)
        with self._lock:
            rounds = self._bodies[ROUNDS]
            if kind == ROUNDS:
                found |= {k for k, b in rounds.items() if k[0] == namespace and _previous(b) == name}
            elif kind == DEPLOYMENTS and name == EXECUTOR_SERVICE:
                found |= {k for k in rounds if k[0] == namespace}
        return found

    def affected_evolutions(self, kind: Kind, body: Json) -> set[NamespacedName]:
        """Return the evolutions that must be reconciled when this object changes."""
        if kind == EVOLUTIONS:
            return {_key(body)}
        if kind != ROUNDS:
            return set()
        namespace = body["metadata"]["namespace"]
        with self._lock:
            return {key for key in self._bodies[EVOLUTIONS] if key[0] == namespace and _may_belong(key[1], body)}

    def evolutions(self) -> set[NamespacedName]:
        """Return all evolutions."""
        with self._lock:
            return set(self._bodies[EVOLUTIONS])

    def bodies(self, kind: Kind) -> list[Json]:
        """Return the bodies of all objects of a kind."""
        with self._lock:
            return list(self._bodies[kind].values())

    def evolution_snapshot(self, key: NamespacedName) -> EvolutionSnapshot | None:
        """Return an evolution with its rounds, or None when there is no such evolution."""
        namespace, name = key
        with self._lock:
            body = self._bodies[EVOLUTIONS].get(key)
            if body is None:
                return None
            rounds = (item for k, item in self._bodies[ROUNDS].items() if k[0] == namespace)
            return EvolutionSnapshot(body, in_order(item for item in rounds if _may_belong(name, item)))

    def rounds(self) -> set[NamespacedName]:
        """Return all rounds."""
        with self._lock:
            return set(self._bodies[ROUNDS])

    def snapshot(self, key: NamespacedName) -> RoundSnapshot | None:
        """Return a round with all that belongs to it, or None when there is no such round."""
        namespace, name = key
        with self._lock:
            body = self._bodies[ROUNDS].get(key)
            if body is None:
                return None
            uid = body["metadata"]["uid"]
            children = (*self.training, *CHILDREN)
            of = {kind: [self._bodies[kind][k] for k in self._by_round.get((kind, key), ())] for kind in children}
            mine = {kind: owned(bodies, uid) for kind, bodies in of.items()}
            jobs, *needed = (mine[kind] for kind in self.training)
            job_uids = {job["metadata"]["uid"] for job in jobs}
            progress = [b for b in of[CONFIG_MAPS] if job_uids & _owners(b)]
            others = [b for b in of[CONFIG_MAPS] if not job_uids & _owners(b)]
            cleanup = next((job for job in mine[JOBS] if name_of(job) == cleanup_name(name)), None)
            previous = _previous(body)
            return RoundSnapshot(
                round=body,
                jobs=jobs,
                runtimes=needed[0] if needed else (),
                deployments=mine[DEPLOYMENTS],
                services=mine[SERVICES],
                autoscalers=mine[AUTOSCALERS],
                scaled_objects=mine[SCALED_OBJECTS],
                progress=in_order(progress),
                other_progress=in_order(others),
                pods=in_order(of[PODS]),
                cleanup=cleanup,
                executor=self._bodies[DEPLOYMENTS].get((namespace, EXECUTOR_SERVICE)),
                previous=self._bodies[ROUNDS].get((namespace, previous)) if previous else None,
            )

    def _put(self, kind: Kind, body: Json) -> bool:
        key = _key(body)
        found = self._bodies[kind].get(key)
        if found is not None and _version(found) >= _version(body):
            return False
        if found is not None:
            self._drop(kind, key)
        # managedFields are a third of an object or more and are not used.
        body["metadata"].pop("managedFields", None)
        self._bodies[kind][key] = body
        for round_key in _rounds_of(kind, body):
            self._by_round[kind, round_key].add(key)
        return True

    def _drop(self, kind: Kind, key: NamespacedName) -> None:
        body = self._bodies[kind].pop(key)
        for round_key in _rounds_of(kind, body):
            mine = self._by_round[kind, round_key]
            mine.discard(key)
            # Deleted rounds take no memory.
            if not mine:
                del self._by_round[kind, round_key]


def _key(body: Json) -> NamespacedName:
    return body["metadata"]["namespace"], name_of(body)


def _version(body: Json) -> int:
    # Versions of one kind of object are ordered (KEP-5504); the API server promises it from 1.35 on, etcd always did.
    return int(body["metadata"]["resourceVersion"])


def _rounds_of(kind: Kind, body: Json) -> set[NamespacedName]:
    namespace, name = _key(body)
    if kind == EVOLUTIONS:
        return set()
    if kind == ROUNDS:
        return {(namespace, name)}
    label = body["metadata"].get("labels", {}).get(ROUND)
    return {(namespace, label)} if label else set()


def _may_belong(evolution: str, round_body: Json) -> bool:
    """Return whether a round has the label or the name of a round of the evolution; who owns it is another question."""
    if round_body["metadata"].get("labels", {}).get(LABEL) == evolution:
        return True
    name, _, number = name_of(round_body).rpartition("-r")
    return name == evolution and number.isdecimal()


def _previous(body: Json) -> str | None:
    name: str | None = body["spec"].get("previousRound")
    return name


def _owners(body: Json) -> set[str]:
    return {reference["uid"] for reference in body["metadata"].get("ownerReferences", [])}

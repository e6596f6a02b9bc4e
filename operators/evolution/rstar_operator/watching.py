"""The watch, by kopf: streams, reconnects, credentials, liveness, signals.

An event fills the cache and adds rounds to the work queue; it decides nothing. None of kopf's state, annotations or
finalizers is used. A full list at the start, and every ten minutes, repairs what a watch may miss.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import kopf
import structlog

from rstar.cluster.api import SCALED_OBJECTS, Cluster, ClusterError, Kind, NotFoundError
from rstar.cluster.api_errors import is_transient
from rstar_operator.cache import CHILDREN_SELECTOR, ROOTS, Cache, NamespacedName
from rstar_operator.reconcile import Reconciler
from rstar_operator.reconcile_evolution import EvolutionReconciler
from rstar_operator.workqueue import WorkQueue

RESYNC_SECONDS: Final = 600.0
START_SECONDS: Final = 2.0
"""Pause between two tries to list the objects of a cluster that does not answer yet."""
EVOLUTION_WORKERS: Final = 2
"""Evolutions reconciled at once: a pass over one makes a few requests, and few passes happen."""
LIVENESS: Final = "http://0.0.0.0:8080/healthz"


class Watcher:
    """Watches ``namespaces`` (none: the whole cluster) and reconciles their rounds and evolutions until it is stopped."""

    def __init__(
        self,
        cluster: Cluster,
        reconciler: Reconciler,
        evolutions: EvolutionReconciler,
        cache: Cache,
        namespaces: Sequence[str],
        workers: int,
        resync_seconds: float = RESYNC_SECONDS,
        *,
        keda: bool = False,
    ) -> None:
        """``keda``: services scale by ScaledObjects, which may be missing: KEDA can be installed later."""
        self._cluster = cluster
        self._reconciler = reconciler
        self._evolutions = evolutions
        self._cache = cache
        self._namespaces = tuple(namespaces)
        self._workers = workers
        self._resync_seconds = resync_seconds
        self._kinds = tuple(kind for kind in cache.watched if keda or kind != SCALED_OBJECTS)
        self._without_keda = False
        self._queue: WorkQueue | None = None
        self._evolution_queue: WorkQueue | None = None
        self._resyncing: asyncio.Task[None] | None = None

    def run(self, liveness: str | None = LIVENESS, stop: threading.Event | None = None) -> None:
        """Watch until SIGTERM, SIGINT or ``stop``; running passes are finished."""
        kopf.run(
            registry=self._registry(),
            settings=_settings(self._kinds, scanning=not self._namespaces),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            liveness_endpoint=liveness,
            stop_flag=stop,
        )

    def reconcile(self, key: NamespacedName) -> timedelta | None:
        """Make one pass over a round; return when to make the next one if nothing happens."""
        snapshot = self._cache.snapshot(key)
        if snapshot is None:
            return None
        # An operator of given namespaces has a Role in each of them and no rights on the cluster.
        snapshot = replace(snapshot, rights_in_namespace=bool(self._namespaces), without_keda=self._without_keda)
        return self._reconciler.reconcile(snapshot).requeue_after

    def reconcile_evolution(self, key: NamespacedName) -> timedelta | None:
        """Make one pass over an evolution; return when to make the next one if nothing happens."""
        snapshot = self._cache.evolution_snapshot(key)
        return None if snapshot is None else self._evolutions.reconcile(snapshot).requeue_after

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(self._start)
        kopf.on.cleanup(registry=registry)(self._finish)
        for kind in self._kinds:
            group, version = _group_version(kind)
            kopf.on.event(group, version, kind.plural, registry=registry, param=kind, id=kind.plural)(self._event)
        return registry

    async def _start(self, **_: Any) -> None:
        # The cache is complete before the first event: a round is never reconciled without its children.
        try:
            await asyncio.to_thread(self._resync)
        except ClusterError as error:
            if is_transient(error) or isinstance(error, NotFoundError):
                # In a new installation the API server or the CRD may become ready after the operator.
                raise kopf.TemporaryError(
                    f"cannot list the cluster's objects yet: {error}", delay=START_SECONDS
                ) from None
            raise
        self._queue = WorkQueue(self.reconcile, self._workers)
        self._evolution_queue = WorkQueue(self.reconcile_evolution, EVOLUTION_WORKERS, "evolution")
        for key in self._cache.rounds():
            self._queue.add(key)
        for key in self._cache.evolutions():
            self._evolution_queue.add(key)
        self._resyncing = asyncio.get_running_loop().create_task(self._keep_resyncing())

    async def _finish(self, **_: Any) -> None:
        if self._resyncing is not None:
            self._resyncing.cancel()
        for queue in (self._evolution_queue, self._queue):
            if queue is not None:
                await queue.close()

    async def _event(self, *, event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
        assert self._queue is not None
        assert self._evolution_queue is not None
        kind: Kind = param
        body: Any = event["object"]
        if event["type"] == "DELETED":
            self._cache.remove(kind, body)
        else:
            self._cache.put(kind, body)
        for key in self._cache.affected(kind, body):
            self._queue.add(key)
        for key in self._cache.affected_evolutions(kind, body):
            self._evolution_queue.add(key)

    async def _keep_resyncing(self) -> None:
        while True:
            await asyncio.sleep(self._resync_seconds)
            try:
                changed = await asyncio.to_thread(self._resync)
            except ClusterError as error:
                structlog.get_logger().warning("full list failed", error=str(error))
                continue
            if changed:
                # Usually the watch was only behind; if it has missed an event, this repairs it.
                structlog.get_logger().info("the full list was ahead of the watch", rounds=len(changed))
            assert self._queue is not None
            assert self._evolution_queue is not None
            for key in changed:
                self._queue.add(key)
            # There are few of them, and a pass without changes writes nothing.
            for key in self._cache.evolutions():
                self._evolution_queue.add(key)

    def _resync(self) -> set[NamespacedName]:
        changed = set[NamespacedName]()
        for kind in self._kinds:
            for namespace in self._namespaces or ("",):
                selector = "" if kind in ROOTS else CHILDREN_SELECTOR
                try:
                    bodies, version = self._cluster.list_at(kind, namespace, selector)
                except NotFoundError:
                    if kind != SCALED_OBJECTS:
                        raise NotFoundError(
                            f"there is no CustomResourceDefinition of {kind.full_name}: install it", 404
                        ) from None
                    changed |= self._set_without_keda(True)
                    break
                if kind == SCALED_OBJECTS:
                    changed |= self._set_without_keda(False)
                changed |= self._cache.replace(kind, namespace, bodies, version)
        return changed

    def _set_without_keda(self, missing: bool) -> set[NamespacedName]:
        """Keep whether KEDA is missing; return the rounds to reconcile when that has changed."""
        if missing == self._without_keda:
            return set()
        self._without_keda = missing
        structlog.get_logger().warning("keda", installed=not missing)
        return self._cache.rounds()


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    found: kopf.ConnectionInfo | None = kopf.login_with_service_account(**kwargs)
    if found is None:
        return kopf.login_with_kubeconfig(**kwargs)
    # The address that every pod is given; kopf's default is a name, which needs the cluster's DNS.
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    return replace(found, server=f"https://{address}:{port}") if host else found


class _NoDifferences(kopf.DiffBaseStorage):
    """Keeps kopf from copying and comparing every version of every object, which took a third of the operator's time."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""


def _settings(watched: Sequence[Kind], *, scanning: bool) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDifferences()
    # An operator of given namespaces has no right to scan the cluster; kinds and namespaces are known.
    settings.scanning.disabled = not scanning
    for kind in watched:
        if kind not in ROOTS:
            group, version = _group_version(kind)
            settings.watching.label_selectors[group, version, kind.plural] = CHILDREN_SELECTOR
    return settings


def _group_version(kind: Kind) -> tuple[str, str]:
    """Return ('apps', 'v1') for ``/apis/apps/v1``, ('', 'v1') for ``/api/v1``."""
    parts = kind.api.strip("/").split("/")
    return ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])

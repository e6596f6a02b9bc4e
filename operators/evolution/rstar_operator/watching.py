"""The operator's plumbing, kopf's: watch streams, reconnects, credentials, liveness, signals.

Every event only fills the cache and wakes rounds: none of kopf's state, annotations or finalizers is used, and no
event decides anything. A full list at the start, and now and then, mends what a watch may miss. The module refuses to
decide.
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

from rstar.cluster.api import ROUNDS, Cluster, ClusterError, Kind, NotFoundError
from rstar.cluster.refusals import is_transient
from rstar_operator.cache import CHILDREN_SELECTOR, WATCHED, Cache, Key
from rstar_operator.reconcile import Reconciler
from rstar_operator.workqueue import Passes

RESYNC_SECONDS: Final = 600.0
START_SECONDS: Final = 2.0
"""Between two tries to look at a cluster that does not answer yet."""
LIVENESS: Final = "http://0.0.0.0:8080/healthz"


class Watching:
    """Watches ``namespaces`` (none: the whole cluster) and makes passes over their rounds until told to stop."""

    def __init__(
        self,
        cluster: Cluster,
        reconciler: Reconciler,
        cache: Cache,
        namespaces: Sequence[str],
        workers: int,
        resync_seconds: float = RESYNC_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._reconciler = reconciler
        self._cache = cache
        self._namespaces = tuple(namespaces)
        self._workers = workers
        self._resync_seconds = resync_seconds
        self._passes: Passes | None = None
        self._resyncing: asyncio.Task[None] | None = None

    def run(self, liveness: str | None = LIVENESS, stop: threading.Event | None = None) -> None:
        """Watch until SIGTERM, SIGINT or ``stop``; passes under way are finished."""
        kopf.run(
            registry=self._registry(),
            settings=_settings(scanning=not self._namespaces),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            liveness_endpoint=liveness,
            stop_flag=stop,
        )

    def one_pass(self, key: Key) -> timedelta | None:
        """Look at one round; return when to look again."""
        world = self._cache.world(key)
        if world is None:
            return None
        # Who serves given namespaces has a Role in each of them, and nothing beyond.
        return self._reconciler.reconcile(replace(world, fleeting=bool(self._namespaces))).again

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(self._start)
        kopf.on.cleanup(registry=registry)(self._finish)
        for kind in WATCHED:
            group, version = _group_version(kind)
            kopf.on.event(group, version, kind.plural, registry=registry, param=kind, id=kind.plural)(self._event)
        return registry

    async def _start(self, **_: Any) -> None:
        # The cache is whole before the first event: a round is never looked at without its children.
        try:
            await asyncio.to_thread(self._resync)
        except ClusterError as error:
            if is_transient(error) or isinstance(error, NotFoundError):
                # The API server comes up, or the CRD does: in a new installation they are no older than the operator.
                raise kopf.TemporaryError(f"cannot look at the cluster yet: {error}", delay=START_SECONDS) from None
            raise
        self._passes = Passes(self.one_pass, self._workers)
        for key in self._cache.rounds():
            self._passes.wake(key)
        self._resyncing = asyncio.get_running_loop().create_task(self._keep_resyncing())

    async def _finish(self, **_: Any) -> None:
        if self._resyncing is not None:
            self._resyncing.cancel()
        if self._passes is not None:
            await self._passes.close()

    async def _event(self, *, event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
        assert self._passes is not None
        kind: Kind = param
        body: Any = event["object"]
        if event["type"] == "DELETED":
            self._cache.remove(kind, body)
        else:
            self._cache.put(kind, body)
        for key in self._cache.affected(kind, body):
            self._passes.wake(key)

    async def _keep_resyncing(self) -> None:
        while True:
            await asyncio.sleep(self._resync_seconds)
            try:
                changed = await asyncio.to_thread(self._resync)
            except ClusterError as error:
                structlog.get_logger().warning("full list failed", error=str(error))
                continue
            if changed:
                # Usually the watch was only behind; if it has missed something, this mends it.
                structlog.get_logger().info("the full list was ahead of the watch", rounds=len(changed))
            assert self._passes is not None
            for key in changed:
                self._passes.wake(key)

    def _resync(self) -> set[Key]:
        changed = set[Key]()
        for kind in WATCHED:
            for namespace in self._namespaces or ("",):
                selector = "" if kind == ROUNDS else CHILDREN_SELECTOR
                bodies, version = self._cluster.list_at(kind, namespace, selector)
                changed |= self._cache.replace(kind, namespace, bodies, version)
        return changed


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    found: kopf.ConnectionInfo | None = kopf.login_with_service_account(**kwargs)
    if found is None:
        return kopf.login_with_kubeconfig(**kwargs)
    # The address that the cluster gives every pod: kopf's own, by name, needs the cluster's DNS.
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    return replace(found, server=f"https://{address}:{port}") if host else found


class _NoDifferences(kopf.DiffBaseStorage):
    """Keeps kopf from copying every version of every object to compare it: nobody here asks for the difference.

    It took a third of the operator's time.
    """

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""


def _settings(*, scanning: bool) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDifferences()
    # Without rights on the cluster there is nothing to scan: the kinds are known, and the namespaces given.
    settings.scanning.disabled = not scanning
    for kind in WATCHED:
        if kind != ROUNDS:
            group, version = _group_version(kind)
            settings.watching.label_selectors[group, version, kind.plural] = CHILDREN_SELECTOR
    return settings


def _group_version(kind: Kind) -> tuple[str, str]:
    """Return ('apps', 'v1') for ``/apis/apps/v1``, ('', 'v1') for ``/api/v1``."""
    parts = kind.api.strip("/").split("/")
    return ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])

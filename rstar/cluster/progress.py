"""A running stage's progress in a ConfigMap of its namespace, where the operator and ``rstar status`` read it.

Nobody decides anything on progress, so nothing here may hold up a stage or make it fail: the requests go out from a
thread of their own, at most one in ``PERIOD_SECONDS``, always with the newest text; what could not be sent is said
once and never repeated; the end waits a bounded time. The module refuses to create the ConfigMap, which is its
owner's business.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from rstar.cluster.names import PROGRESS_KEY

if TYPE_CHECKING:
    from rstar.cluster.api import Cluster

PERIOD_SECONDS: Final = 5.0
CLOSING_SECONDS: Final = 5.0
"""How long the end of a stage waits for its last report."""

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ConfigMapProgress:
    """Keeps the key ``progress.json`` of the ConfigMap ``name`` at the newest text that it was given."""

    def __init__(self, name: str, *, period: float = PERIOD_SECONDS, closing: float = CLOSING_SECONDS) -> None:
        self._name = name
        self._period = period
        self._closing = closing
        self._cluster: Cluster | None = None
        self._failed = False
        self._changed = threading.Condition()
        self._newest: str | None = None
        self._closed = False
        self._sender = threading.Thread(target=self._send_all, name="progress", daemon=True)
        self._sender.start()

    def write(self, text: str) -> None:
        """Take the newest text; returns at once."""
        with self._changed:
            self._newest = text
            self._changed.notify()

    def close(self) -> None:
        """Send what is left, for ``closing`` seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._sender.join(self._closing)

    def _send_all(self) -> None:
        # At once, and in this thread: the client takes a second to load, which no stage should wait for.
        try:
            import rstar.cluster.api  # noqa: F401 - for later
        except ImportError as error:
            self._say(error)
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._newest is not None)
                text, self._newest = self._newest, None
            if text is None:
                return
            self._send(text)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._period)

    def _send(self, text: str) -> None:
        from rstar.cluster.api import CONFIG_MAPS, Cluster, ClusterError

        try:
            if self._cluster is None:
                self._cluster = Cluster.connect(user_agent="rstar-stage")
            self._cluster.patch(CONFIG_MAPS, own_namespace(), self._name, {"data": {PROGRESS_KEY: text}})
        except (ClusterError, OSError) as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            structlog.get_logger().warning("progress is not reported", configmap=self._name, error=str(error))


def own_namespace(environment: Mapping[str, str] = os.environ) -> str:
    """Return the namespace of this pod. Raises ``OSError`` where there is none."""
    return environment.get("POD_NAMESPACE") or NAMESPACE_FILE.read_text().strip()

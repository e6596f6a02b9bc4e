"""Writes the progress of a running stage to a ConfigMap of its namespace, where the operator reads it.

Nothing depends on progress, so it must neither delay a stage nor make it fail. A thread sends the requests, at most one
in ``PERIOD_SECONDS`` and always with the newest text; a failure is logged once and not retried; the end of the stage
waits for a bounded time. The operator creates the ConfigMap.
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
    """Writes the newest text to the key ``progress.json`` of the ConfigMap ``name``."""

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
        """Send the last text, for ``closing`` seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._sender.join(self._closing)

    def _send_all(self) -> None:
        # The client takes a second to load: this thread loads it at once, so that the stage does not wait.
        try:
            import rstar.cluster.api  # noqa: F401 - loaded for _send
        except ImportError as error:
            self._warn_once(error)
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
            self._warn_once(error)

    def _warn_once(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            structlog.get_logger().warning("progress is not reported", configmap=self._name, error=str(error))


def own_namespace(environment: Mapping[str, str] = os.environ) -> str:
    """Return the namespace of this pod. Raises ``OSError`` outside a pod."""
    return environment.get("POD_NAMESPACE") or NAMESPACE_FILE.read_text().strip()

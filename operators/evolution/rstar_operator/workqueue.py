"""The work queue: reconciles a round soon after a change and when its last pass asked for it, never twice at once.

Changes during a pass cause one more pass, not many. A failed pass is repeated with exponential backoff. The queue runs
in the event loop of the watch; the passes run in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from rstar.cluster.api import ClusterError, ConflictError
from rstar_operator.cache import NamespacedName
from rstar_operator.metrics import API_ERRORS, PASS_SECONDS

BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 10.0
"""How long running passes may take at the end: less than a pod's grace period of 30 s, in which two queues are closed."""

CONFLICT_SECONDS: Final = 0.2
"""Pause after a pass on an old version: the watch brings the new one within moments."""


@dataclass(slots=True)
class _Entry:
    due: bool = False
    running: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None


class WorkQueue:
    """Calls ``reconcile(key)``, which returns when to call it again, for every added key.

    ``limit``: calls at once; ``word`` names a key in logs.
    """

    def __init__(
        self, reconcile: Callable[[NamespacedName], timedelta | None], limit: int, word: str = "round"
    ) -> None:
        self._reconcile = reconcile
        self._word = word
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="reconcile")
        self._entries: dict[NamespacedName, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def add(self, key: NamespacedName) -> None:
        """Reconcile a round soon. Must be called in the event loop."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.due = True
        if not entry.running:
            entry.running = True
            task = asyncio.get_running_loop().create_task(self._serve(key, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Start no more passes, and wait for the running ones for at most ``seconds``."""
        self._closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        running = set(self._tasks)
        late = (await asyncio.wait(running, timeout=seconds))[1] if running else set()
        if late:
            structlog.get_logger().warning("ends before its passes do", **{f"{self._word}s": len(late)})
        self._threads.shutdown(wait=not late, cancel_futures=True)

    async def _serve(self, key: NamespacedName, entry: _Entry) -> None:
        pause: float | None = None
        while entry.due and not self._closed:
            entry.due = False
            pause = await self._pass(key, entry)
        entry.running = False
        if pause is None:
            # Idle and deleted rounds take no memory.
            del self._entries[key]
        elif not self._closed:
            entry.timer = asyncio.get_running_loop().call_later(pause, self.add, key)

    async def _pass(self, key: NamespacedName, entry: _Entry) -> float | None:
        namespace, name = key
        began = time.monotonic()
        log = structlog.get_logger().bind(namespace=namespace, **{self._word: name})
        try:
            requeue_after = await asyncio.get_running_loop().run_in_executor(self._threads, self._reconcile, key)
        except ConflictError:
            self._measure("conflict", began)
            return CONFLICT_SECONDS
        except ClusterError as error:
            API_ERRORS.labels(str(error.code)).inc()
            log.warning("pass failed", error=str(error))
        except Exception:
            log.exception("pass failed")
        else:
            self._measure("ok", began)
            entry.failures = 0
            return requeue_after.total_seconds() if requeue_after is not None else None
        self._measure("failed", began)
        entry.failures += 1
        return float(min(BACKOFF_SECONDS * 2**entry.failures, LONGEST_BACKOFF_SECONDS))

    def _measure(self, outcome: str, began: float) -> None:
        PASS_SECONDS.labels(self._word, outcome).observe(time.monotonic() - began)

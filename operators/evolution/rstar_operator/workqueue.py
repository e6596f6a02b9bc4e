"""When a round is looked at: soon after anything of it changed, and when a pass asked for it. Never two at once.

Changes that come while a pass is under way make one more pass, not many. A pass that fails is repeated with growing
pauses. It runs in the event loop that watches; passes themselves run in threads. The module refuses to know what a
pass does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from rstar.cluster.api import ClusterError, ConflictError
from rstar_operator.cache import Key

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
STALE_PAUSE: Final = 0.2
"""After a pass on an old version: the watch brings the new one any moment."""


@dataclass(slots=True)
class _Entry:
    due: bool = False
    running: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None


class Passes:
    """Runs ``one(key)``, which returns when to look again, for the rounds that are woken. ``limit``: passes at once."""

    def __init__(self, one: Callable[[Key], timedelta | None], limit: int) -> None:
        self._one = one
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="pass")
        self._entries: dict[Key, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def wake(self, key: Key) -> None:
        """Look at a round soon. Call it in the event loop."""
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

    async def close(self) -> None:
        """Finish the passes under way and start none."""
        self._closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    async def _serve(self, key: Key, entry: _Entry) -> None:
        pause: float | None = None
        while entry.due and not self._closed:
            entry.due = False
            pause = await self._pass(key, entry)
        entry.running = False
        if pause is None:
            # Nothing is kept of rounds that are at rest, or gone.
            del self._entries[key]
        elif not self._closed:
            entry.timer = asyncio.get_running_loop().call_later(pause, self.wake, key)

    async def _pass(self, key: Key, entry: _Entry) -> float | None:
        namespace, name = key
        log = structlog.get_logger().bind(namespace=namespace, round=name)
        try:
            again = await asyncio.get_running_loop().run_in_executor(self._threads, self._one, key)
        except ConflictError:
            return STALE_PAUSE
        except ClusterError as error:
            log.warning("pass failed", error=str(error))
        except Exception:
            log.exception("pass failed")
        else:
            entry.failures = 0
            return again.total_seconds() if again is not None else None
        entry.failures += 1
        return float(min(FIRST_PAUSE * 2**entry.failures, LONGEST_PAUSE))

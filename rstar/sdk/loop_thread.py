"""An event loop in a thread of its own.

The clients of the services are bound to one loop. A loop of its own makes them usable from a script, which has none, and
from a notebook, whose loop runs already; and it is the one thread in which services may be started, because the kernel
ends them with the thread that started them (``rstar.local.die_with_parent``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

JOIN_SECONDS: Final = 10.0


class LoopThread:
    """A running event loop; ``stop`` ends it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: an exception in the main thread must end the program, not wait for this thread.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start ``work`` in the loop; cancelling the future cancels it. Raises ``RuntimeError`` after ``stop``."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel all work, run ``last``, and end the thread."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            try:
                await last
            finally:
                self._loop.stop()

        self.submit(end())
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

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
from weakref import WeakSet

T = TypeVar("T")

JOIN_SECONDS: Final = 10.0
CALLS_SECONDS: Final = 1.0
"""How long ``stop`` waits for gRPC to end the calls that were cancelled. It takes milliseconds."""


class LoopThread:
    """A running event loop; ``stop`` ends it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._submitted: WeakSet[Coroutine[Any, Any, Any]] = WeakSet()
        # A daemon: an exception in the main thread must end the program, not wait for this thread.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start ``work`` in the loop; cancelling the future cancels it. Raises ``RuntimeError`` after ``stop``."""
        self._submitted.add(work)
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel all work, run ``last``, and end the thread."""

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task.get_coro() in self._submitted]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                await last
            finally:
                # gRPC has a task for each cancelled call until its library reports the end. All loops of a process get
                # these reports; one for a closed loop would make another loop print a traceback.
                calls = asyncio.all_tasks() - {asyncio.current_task()}
                if calls:
                    await asyncio.wait(calls, timeout=CALLS_SECONDS)
                self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

"""Records which warden has run which steps, so that a batch goes to a warden that may have a snapshot of them.

Pure bookkeeping. It may be out of date: a warden that has dropped the snapshot runs the steps again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from rstar_executor.sandbox.limits import Limits
from rstar_executor.warden.snapshots import digests, follow

Worker = TypeVar("Worker")

MOST_PREFIXES: Final = 4096
_ANY = Limits(0, 0, 0, 0)


class Affinity(Generic[Worker]):
    """The worker that last ran each of the last ``most`` prefixes."""

    def __init__(self, most: int = MOST_PREFIXES) -> None:
        self._most = most
        self._last_worker: OrderedDict[bytes, Worker] = OrderedDict()

    def record(self, worker: Worker, steps: Sequence[str], candidates: Sequence[str]) -> None:
        """Record that ``worker`` ran ``steps`` and each of ``candidates`` after them."""
        prefix = digests(_ANY, steps)[-1]
        keys = [follow(prefix, candidate) for candidate in candidates]
        if steps:
            keys.append(prefix)
        for key in keys:
            self._last_worker[key] = worker
            self._last_worker.move_to_end(key)
        while len(self._last_worker) > self._most:
            self._last_worker.popitem(last=False)

    def choose(self, idle: Sequence[Worker], steps: Sequence[str]) -> Worker:
        """Return the worker of ``idle`` (not empty) that ran the longest prefix of ``steps``, else the last of ``idle``."""
        for key in reversed(digests(_ANY, steps)[1:]):
            worker = self._last_worker.get(key)
            if worker is not None and any(worker is other for other in idle):
                return worker
        return idle[-1]

    def forget(self, worker: Worker) -> None:
        """Remove a worker that has ended."""
        for key in [key for key, last in self._last_worker.items() if last is worker]:
            del self._last_worker[key]

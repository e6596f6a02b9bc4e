"""Which warden has run which steps: a batch goes to the one that can go on from there.

Pure bookkeeping. It errs on one side: a warden that no longer has a snapshot runs the steps again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from rstar_executor.sandbox.limits import Limits
from rstar_executor.warden.snapshots import digests, follow

Worker = TypeVar("Worker")

MOST: Final = 4096
_ANY = Limits(0, 0, 0, 0)


class Affinity(Generic[Worker]):
    """Remembers, for the last ``most`` prefixes, who ran them last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Worker] = OrderedDict()

    def note(self, worker: Worker, kind: str, steps: Sequence[str], candidates: Sequence[str]) -> None:
        """Remember that ``worker`` ran ``steps`` and each of ``candidates`` after them."""
        prefix = digests(kind, _ANY, steps)[-1]
        keys = [follow(prefix, candidate) for candidate in candidates]
        if steps:
            keys.append(prefix)
        for key in keys:
            self._known[key] = worker
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def choose(self, idle: Sequence[Worker], kind: str, steps: Sequence[str]) -> Worker:
        """Return the one of ``idle`` (not empty) that knows the longest part of ``steps``; else the last of them."""
        for key in reversed(digests(kind, _ANY, steps)[1:]):
            worker = self._known.get(key)
            if worker is not None and any(worker is other for other in idle):
                return worker
        return idle[-1]

    def forget(self, worker: Worker) -> None:
        """Forget a worker that is gone."""
        for key in [key for key, known in self._known.items() if known is worker]:
            del self._known[key]

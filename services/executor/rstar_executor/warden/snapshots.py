"""Snapshots: paused interpreters, found by the steps that they have run.

Programs with the same steps are forked from the snapshot with the longest prefix of them. Pure bookkeeping on plain data:
the least recently used snapshots are dropped first.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from rstar_executor.sandbox.limits import Limits

_DIGEST_BYTES = 16

SNAPSHOT_KINDS: Final = ("heavy", "scipy")
"""Only programs of these zygotes get snapshots. Light ones are quicker to run again: the calls of a Game of 24 rollout
took 1.1 to 1.4 times as long with snapshots of light programs as without."""

_CLOCKS = (
    r"time|datetime|timeit|calendar|zoneinfo|asyncio|sched|resource|profile|cProfile|uuid|secrets|tempfile|logging"
)
_SHARED = r"mmap|ctypes|cffi|multiprocessing|concurrent|subprocess|shelve|dbm|sqlite3"
_IMPORT = rf"^[^\n#]*\b(?:import|from)\b[^\n]*\b(?:{_CLOCKS}|{_SHARED})\b"
_WORDS = r"\b(?:__import__|importlib|perf_counter\w*|datetime64|clock_gettime|register_at_fork|memmap|__future__|pythonapi)\b"
_EXCLUDED = re.compile(rf"{_IMPORT}|{_WORDS}", re.MULTILINE)
_INSEPARABLE = re.compile(r"__future__|^global\s", re.MULTILINE)


@dataclass(eq=False)
class Snapshot:
    """A paused interpreter: its process and the id of the notification that it waits on (a new one after each fork).

    ``stdout``, ``stderr_bytes`` and ``seconds`` are the output and the time of its steps, ``size`` its bytes of memory.
    """

    pid: int
    notification: int
    stdout: bytes = b""
    stderr_bytes: int = 0
    seconds: float = 0.0
    size: int = 0


def digests(limits: Limits, steps: Sequence[str]) -> list[bytes]:
    """Return a digest of each prefix of ``steps``, from the empty one to the whole, under these limits."""
    empty = blake2b(repr(tuple(limits)).encode(), digest_size=_DIGEST_BYTES).digest()
    return list(itertools.accumulate(steps, follow, initial=empty))


def follow(prefix: bytes, step: str) -> bytes:
    """Return the digest of the prefix with digest ``prefix`` and ``step`` after it."""
    return blake2b(prefix + step.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class Snapshots:
    """At most ``most`` snapshots of at most ``capacity`` bytes together."""

    def __init__(self, capacity: int, most: int) -> None:
        self._capacity, self._most = capacity, most
        self._entries: OrderedDict[bytes, Snapshot] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def longest(self, prefixes: Sequence[bytes]) -> tuple[int, Snapshot | None]:
        """Return the snapshot of the longest prefix in ``prefixes`` (``digests``) and its number of steps; 0, None for none."""
        for depth in range(len(prefixes) - 1, 0, -1):
            if (snapshot := self._entries.get(prefixes[depth])) is not None:
                self._entries.move_to_end(prefixes[depth])
                return depth, snapshot
        return 0, None

    def put(self, key: bytes, snapshot: Snapshot) -> list[Snapshot]:
        """Add ``snapshot``; return those dropped for it, which include itself when it is too large."""
        dropped = self.drop(key)
        self._entries[key] = snapshot
        self.size += snapshot.size
        while self._entries and (self.size > self._capacity or len(self._entries) > self._most):
            dropped += self.drop(next(iter(self._entries)))
        return dropped

    def drop(self, key: bytes) -> list[Snapshot]:
        """Drop the snapshot of ``key`` and return it."""
        snapshot = self._entries.pop(key, None)
        if snapshot is None:
            return []
        self.size -= snapshot.size
        return [snapshot]

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()
        self.size = 0

    def pids(self) -> set[int]:
        """Return the processes of all snapshots."""
        return {snapshot.pid for snapshot in self._entries.values()}


def resumable(text: str) -> bool:
    """Say whether an interpreter that ran ``text`` may become a snapshot.

    Text that may read a clock, or share memory, files or processes with a fork, is excluded; in doubt, too.
    """
    return _EXCLUDED.search(text) is None


def separable(step: str) -> bool:
    """Say whether ``step`` can be compiled on its own without a change in the meaning of the other steps."""
    return _INSEPARABLE.search(step) is None


def units(steps: Sequence[str]) -> list[str]:
    """Return the texts to compile: each step, or all steps as one text where one of them is not ``separable``."""
    return list(steps) if all(map(separable, steps)) else ["".join(steps)]

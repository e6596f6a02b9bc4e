"""Which interpreters rest, by the steps that they have run: the longest known prefix, the least recently used go first.

Pure bookkeeping on plain data. It refuses to know what a process is.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from rstar_executor.sandbox.limits import Limits

_DIGEST_BYTES = 16

_CLOCKS = (
    r"time|datetime|timeit|calendar|zoneinfo|asyncio|sched|resource|profile|cProfile|uuid|secrets|tempfile|logging"
)
_SHARED = r"mmap|ctypes|cffi|multiprocessing|concurrent|subprocess|shelve|dbm|sqlite3"
_IMPORT = rf"^[^\n#]*\b(?:import|from)\b[^\n]*\b(?:{_CLOCKS}|{_SHARED})\b"
_WORDS = r"\b(?:__import__|importlib|perf_counter\w*|datetime64|clock_gettime|register_at_fork|memmap|__future__|pythonapi)\b"
_DOUBTFUL = re.compile(rf"{_IMPORT}|{_WORDS}", re.MULTILINE)
_INSEPARABLE = re.compile(r"__future__|^global\s", re.MULTILINE)


@dataclass(eq=False)
class Resting:
    """An interpreter that waits: its process, its call that waits for an answer (another after each fork).

    ``stdout``, ``stderr_bytes`` and ``seconds`` are what its steps printed and took, ``size`` the bytes it holds.
    """

    pid: int
    call: int
    stdout: bytes = b""
    stderr_bytes: int = 0
    seconds: float = 0.0
    size: int = 0


def digests(kind: str, limits: Limits, steps: Sequence[str]) -> list[bytes]:
    """Return a digest of each prefix of ``steps``, from the empty one to the whole, under these limits."""
    empty = blake2b(repr((kind, tuple(limits))).encode(), digest_size=_DIGEST_BYTES).digest()
    return list(itertools.accumulate(steps, follow, initial=empty))


def follow(prefix: bytes, step: str) -> bytes:
    """Return the digest of the prefix with digest ``prefix`` and ``step`` after it."""
    return blake2b(prefix + step.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class Snapshots:
    """Resting interpreters within ``capacity`` bytes and ``most`` in number."""

    def __init__(self, capacity: int, most: int) -> None:
        self._capacity, self._most = capacity, most
        self._entries: OrderedDict[bytes, Resting] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def longest(self, prefixes: Sequence[bytes]) -> tuple[int, Resting | None]:
        """Return how many steps of ``prefixes`` (``digests``) the best snapshot has run, and it; 0, None for none."""
        for depth in range(len(prefixes) - 1, 0, -1):
            if (resting := self._entries.get(prefixes[depth])) is not None:
                self._entries.move_to_end(prefixes[depth])
                return depth, resting
        return 0, None

    def put(self, key: bytes, resting: Resting) -> list[Resting]:
        """Remember ``resting``; return those that have to go for it, itself among them when it is too large."""
        going = self.drop(key)
        self._entries[key] = resting
        self.size += resting.size
        while self._entries and (self.size > self._capacity or len(self._entries) > self._most):
            going += self.drop(next(iter(self._entries)))
        return going

    def drop(self, key: bytes) -> list[Resting]:
        """Forget what is under ``key``; return it."""
        resting = self._entries.pop(key, None)
        if resting is None:
            return []
        self.size -= resting.size
        return [resting]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.size = 0

    def pids(self) -> set[int]:
        """Return the processes of all."""
        return {resting.pid for resting in self._entries.values()}


def resumable(text: str) -> bool:
    """Say whether an interpreter that ran ``text`` may rest and be forked."""
    return _DOUBTFUL.search(text) is None


def separable(step: str) -> bool:
    """Say whether ``step`` leaves alone how the other steps of its program are read."""
    return _INSEPARABLE.search(step) is None


def pieces(steps: Sequence[str]) -> list[str]:
    """Return ``steps`` as they are compiled: one by one, or as one text where one changes how the others are read."""
    return list(steps) if all(map(separable, steps)) else ["".join(steps)]

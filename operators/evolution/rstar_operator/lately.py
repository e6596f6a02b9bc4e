"""What was done within the last seconds: all that the operator remembers by itself, and it forgets it at once.

It may be lost at any time: then something is done a little too early. Safe to share between threads. The module
refuses to know what was done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Lately:
    """Keys that were noted within the last ``seconds``; those before are forgotten, however many keys come and go."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}  # the oldest first
        self._lock = threading.Lock()

    def note(self, key: str) -> None:
        """Note that it was done now."""
        with self._lock:
            now = self._clock()
            self._until.pop(key, None)
            self._until[key] = now + self._seconds
            while self._until[first := next(iter(self._until))] <= now:
                del self._until[first]

    def left(self, key: str) -> float:
        """Return for how many seconds more it counts as done lately; 0 if it does not."""
        with self._lock:
            return max(self._until[key] - self._clock(), 0.0) if key in self._until else 0.0

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._until)

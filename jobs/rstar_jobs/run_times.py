"""``run.json`` of a stage: when it was worked on, and for how long in all its attempts.

It stands beside the manifest, which holds no times, so that equal work has equal digests. It only informs: what cannot be
stored is logged and ends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from rstar.rounds.manifest import canonical
from rstar.rounds.stage import StageRun, read_times
from rstar.store.digests import MANIFEST, RUN_TIMES
from rstar.store.store import StoreError
from rstar_jobs.progress import Progress

PERIOD_SECONDS: Final = 60.0
"""Time between two writes: what a killed attempt loses of its seconds at most. Bad input is refused before the first."""

JOIN_SECONDS: Final = 5.0
"""How long the end of an attempt waits for a write to a store that does not answer."""


class RunTimes:
    """Writes ``run.json`` every ``PERIOD_SECONDS`` from when the attempt opens its stage, and when it ends."""

    def __init__(self, progress: Progress, *, writes: bool) -> None:
        """Write nothing unless ``writes``: of several processes only the leader does."""
        self._progress = progress
        self._writes = writes
        self._started = datetime.now(UTC)
        self._stage: StageRun | None = None
        self._before: Mapping[str, Any] = {}
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write_often, name="run-times", daemon=True)

    def begin(self, stage: StageRun) -> None:
        """Count an attempt of ``stage``, unless it has a manifest: then there is nothing left to do."""
        if not self._writes or self._stage is not None:
            return
        try:
            if stage.store.exists(stage.key(MANIFEST)):
                return
            self._before = _read(stage)
        except StoreError as error:
            _warn(stage, error)
        self._stage = stage
        self._writer.start()

    def end(self, *, finished: bool, worked: bool = True) -> None:
        """Write the last time, if the attempt ``worked``. ``finished``: the stage has its manifest now."""
        if self._stage is None:
            return
        self._over.set()
        self._writer.join(JOIN_SECONDS)
        if worked and not self._writer.is_alive():
            self._write(finished=finished)

    def _write_often(self) -> None:
        while not self._over.wait(PERIOD_SECONDS):
            self._write()

    def _write(self, *, finished: bool = False) -> None:
        stage, before, now = self._stage, self._before, datetime.now(UTC).isoformat()
        assert stage is not None
        times = {
            "started": before.get("started", self._started.isoformat()),
            "updated": now,
            "attempts": before.get("attempts", 0) + 1,
            "seconds": round(before.get("seconds", 0.0) + self._progress.seconds(), 3),
            "last_progress": self._progress.last or before.get("last_progress", {}),
        }
        try:
            stage.store.write(stage.key(RUN_TIMES), canonical(times | ({"finished": now} if finished else {})))
        except StoreError as error:
            _warn(stage, error)


def _read(stage: StageRun) -> Mapping[str, Any]:
    """Return what earlier attempts wrote; {} where that is nothing, or cannot be read."""
    found = read_times(stage.store, stage.prefix)
    numbers = (found.get("attempts", 0), found.get("seconds", 0.0))
    return found if all(isinstance(number, (int, float)) for number in numbers) else {}


def _warn(stage: StageRun, error: StoreError) -> None:
    structlog.get_logger().warning("times not stored", key=stage.key(RUN_TIMES), error=str(error))

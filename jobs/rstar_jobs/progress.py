"""The progress of a running stage: a small JSON object in a file, or in a ConfigMap of the pod's namespace.

A file is replaced atomically about once a second. Rates and the time left are those of this attempt. No decision
depends on the progress, so its loss costs nothing.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from rstar.record import SearchRecord, Usage
from rstar.store.atomic import atomic_write

PERIOD_SECONDS: Final = 1.0
TRACKED_SECONDS: Final = 10.0
"""Least time between two reports of searches to the trackers."""

_CONFIG_MAP: Final = "configmap:"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Destination(Protocol):
    """The place of the latest report."""

    def write(self, text: str) -> None:
        """Replace the report."""
        ...

    def close(self) -> None:
        """Deliver the last report; takes a bounded time."""
        ...


class ProgressFile:
    """A local file, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> None:
        """Replace the file."""
        with atomic_write(self._path, durable=False) as file:
            file.write(text.encode())

    def close(self) -> None:
        """Do nothing: every report is in the file."""


def open_destination(text: str) -> Destination:
    """Open a path, or ``configmap:NAME``. Raises ``ValueError`` for an impossible name."""
    if not text.startswith(_CONFIG_MAP):
        return ProgressFile(Path(text))
    name = text.removeprefix(_CONFIG_MAP)
    if not _NAME.fullmatch(name):
        raise ValueError(f"--progress {text!r} names no ConfigMap: write configmap:NAME, in lower case letters")
    from rstar.cluster.progress import ConfigMapProgress

    return ConfigMapProgress(name)


class Tracks(Protocol):
    """What takes figures besides the report: the trackers of the round."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take figures at a step."""
        ...

    def close(self) -> None:
        """Deliver the last figures; takes a bounded time."""
        ...


class Progress:
    """Writes a stage's reports to ``destination``; None drops them. ``trackers``: set once the round is read."""

    def __init__(self, destination: Destination | None, stage: str) -> None:
        self._destination = destination
        self._stage = stage
        self._started = time.monotonic()
        self._written = 0.0
        self._tracked = 0.0
        self.trackers: Tracks | None = None
        self.last: dict[str, Any] = {}

    def report(self, done: int, total: int, *, last: bool = False, **figures: float) -> None:
        """Report ``done`` of ``total`` and some figures: at most once a second, but always the ``last`` time."""
        now = time.monotonic()
        if self._destination is None or (now - self._written < PERIOD_SECONDS and not last):
            return
        self._written = now
        content: dict[str, Any] = {"stage": self._stage, "done": done, "total": total}
        # JSON has no NaN, and a loss may become one.
        content |= {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
        self.last = content
        self._destination.write(json.dumps(content))

    def track(self, step: int, **figures: float) -> None:
        """Log figures of this stage in the trackers."""
        if self.trackers is not None:
            self.trackers.log({f"{self._stage}/{name}": value for name, value in figures.items()}, step)

    def track_sometimes(self, step: int, *, last: bool = False, **figures: float) -> None:
        """Log figures that are counted all the time: every ``TRACKED_SECONDS``, but always the ``last`` time."""
        now = time.monotonic()
        if last or now - self._tracked >= TRACKED_SECONDS:
            self._tracked = now
            self.track(step, **figures)

    def close(self) -> None:
        """Deliver the last report and the last figures; takes a bounded time."""
        if self.trackers is not None:
            self.trackers.close()
        if self._destination is not None:
            self._destination.close()

    def seconds(self) -> float:
        """Return how long this attempt has been running."""
        return max(time.monotonic() - self._started, 1e-9)


class SearchProgress:
    """Counts finished searches, and the usage of finished and running ones.

    Earlier attempts stored ``done`` problems with ``successes`` successes. ``key`` names the successes in the report:
    ``solved`` (rollout) or ``correct`` (evaluate).
    """

    def __init__(self, progress: Progress, *, total: int, done: int, successes: int, key: str) -> None:
        self._progress = progress
        self._total = total
        self._before = done
        self._done = 0
        self._successes = successes
        self._key = key
        self._spent = Usage()
        self._running: dict[tuple[str, str], Usage] = {}

    def running(self, shard: str, problem_id: str, usage: Usage, earlier: SearchRecord | None) -> None:
        """Note the usage of a running search; ``earlier`` is the record of the problem's earlier searches."""
        self._running[shard, problem_id] = usage if earlier is None else earlier.usage + usage

    def finished(self, shard: str, record: SearchRecord, *, success: bool, again: bool = False) -> None:
        """Count a finished search; ``again``: of a problem that was counted before, with a failure."""
        self._running.pop((shard, record.problem_id), None)
        self._spent += record.usage
        self._done += not again
        self._successes += success

    def report(self, *, last: bool = False) -> None:
        """Report the counts, the rates and the time left."""
        spent = sum(self._running.values(), self._spent)
        seconds = self._progress.seconds()
        left = self._total - self._before - self._done
        figures: dict[str, float] = {
            self._key: self._successes,
            "tokens": spent.tokens,
            "nodes": spent.nodes,
            "tokens_per_second": spent.tokens / seconds,
            "nodes_per_second": spent.nodes / seconds,
        }
        if self._done:
            figures["eta_seconds"] = seconds / self._done * left
        finished = self._before + self._done
        self._progress.report(finished, self._total, last=last, **figures)
        figures.pop("eta_seconds", None)
        if finished:
            figures[f"{self._key}_share"] = self._successes / finished
        self._progress.track_sometimes(finished, last=last, **figures)

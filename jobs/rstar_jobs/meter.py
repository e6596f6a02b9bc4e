"""What a searching stage has done and spent so far, for its progress file. It refuses to know how a search works."""

from __future__ import annotations

from rstar.record import SearchRecord, Usage
from rstar_jobs.progress import Progress


class Meter:
    """Counts finished searches and what the running ones report. ``done`` were stored by earlier attempts."""

    def __init__(self, progress: Progress, total: int, done: int = 0) -> None:
        self._progress = progress
        self._total = total
        self._before = done
        self._done = 0
        self._solved = 0
        self._spent = Usage()
        self._running: dict[str, Usage] = {}

    def running(self, problem: str, usage: Usage, earlier: SearchRecord | None) -> None:
        """Note what a search under way has spent; ``earlier`` is the record of its earlier phases."""
        self._running[problem] = usage if earlier is None else earlier.usage + usage

    def finished(self, record: SearchRecord) -> None:
        """Note a finished search."""
        self._running.pop(record.problem_id, None)
        self._spent += record.usage
        self._done += 1
        self._solved += record.solved

    def report(self, *, last: bool = False) -> None:
        """Write the progress file."""
        spent = sum(self._running.values(), self._spent)
        seconds = self._progress.seconds()
        left = self._total - self._before - self._done
        figures: dict[str, float] = {
            "solved": self._solved,
            "tokens": spent.tokens,
            "nodes": spent.nodes,
            "tokens_per_s": spent.tokens / seconds,
            "nodes_per_s": spent.nodes / seconds,
        }
        if self._done:
            figures["eta_s"] = seconds / self._done * left
        self._progress.report(self._before + self._done, self._total, last=last, **figures)

"""What a searching stage has done and spent so far, for its progress. It refuses to know how a search works."""

from __future__ import annotations

from rstar.record import SearchRecord, Usage
from rstar_jobs.progress import Progress


class Meter:
    """Counts finished searches and what the running ones report.

    ``done`` problems were stored by earlier attempts, and ``right`` of them were right; ``name`` is what being right
    is called in the report: ``solved`` where the search is told, ``correct`` where it is judged afterwards.
    """

    def __init__(self, progress: Progress, total: int, done: int, right: int, name: str) -> None:
        self._progress = progress
        self._total = total
        self._before = done
        self._done = 0
        self._right = right
        self._name = name
        self._spent = Usage()
        self._running: dict[str, Usage] = {}

    def running(self, problem: str, usage: Usage, earlier: SearchRecord | None) -> None:
        """Note what a search under way has spent; ``earlier`` is the record of its earlier phases."""
        self._running[problem] = usage if earlier is None else earlier.usage + usage

    def finished(self, record: SearchRecord, *, right: bool) -> None:
        """Note a finished search."""
        self._running.pop(record.problem_id, None)
        self._spent += record.usage
        self._done += 1
        self._right += right

    def report(self, *, last: bool = False) -> None:
        """Say how far it is."""
        spent = sum(self._running.values(), self._spent)
        seconds = self._progress.seconds()
        left = self._total - self._before - self._done
        figures: dict[str, float] = {
            self._name: self._right,
            "tokens": spent.tokens,
            "nodes": spent.nodes,
            "tokens_per_second": spent.tokens / seconds,
            "nodes_per_second": spent.nodes / seconds,
        }
        if self._done:
            figures["eta_seconds"] = seconds / self._done * left
        self._progress.report(self._before + self._done, self._total, last=last, **figures)

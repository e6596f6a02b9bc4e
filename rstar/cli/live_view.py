"""The live view of a run on a terminal: rounds, stages, services, and the progress of the running stage.

Redrawn from the latest status of the run. Not covered: a history of events (``line_report``).
"""

from __future__ import annotations

import time
from typing import Any, Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rstar.cli.progress_text import duration, figures, share
from rstar.local.results import RunStatus
from rstar.rounds.status import RoundStatus, StageState

SYMBOLS: Final[dict[StageState, tuple[str, str]]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "retrying": ("↻", "yellow"),
    "failed": ("✗", "red"),
    "done": ("✓", "green"),
}


class LiveView:
    """A ``Report`` and a context manager; the view is on the terminal while the context is open."""

    def __init__(self, names: list[str], stream: TextIO) -> None:
        self._names = names
        self._live = Live(console=Console(file=stream), refresh_per_second=4, transient=True)
        self._stage: tuple[str, str | None] = ("", None)
        self._since = time.monotonic()

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, run: RunStatus) -> None:
        """Draw the status of the run."""
        status = run.statuses[run.current]
        if (run.current, status.stage) != self._stage:
            self._stage, self._since = (run.current, status.stage), time.monotonic()
        self._live.update(Group(*self._rows(run, status)))

    def _rows(self, run: RunStatus, status: RoundStatus) -> list[Any]:
        table = Table.grid(padding=(0, 2))
        for name in self._names:
            table.add_row(Text(name, style="bold"), *stage_cells(run.statuses.get(name)))
        rows: list[Any] = [table, Text(status.message, style="dim")]
        elapsed = time.monotonic() - self._since
        done = share(status.progress)
        if done is not None:
            line = Table.grid(padding=(0, 1))
            line.add_row(
                ProgressBar(total=1.0, completed=done, width=30), figures(_with_eta(status.progress, done, elapsed))
            )
            rows.append(line)
        if run.services:
            states = ", ".join(f"{s.ref.kind} {s.state}" for s in run.services)
            rows.append(Text(f"services: {states}", style="dim"))
        rows.append(
            Text(f"{duration(elapsed)} in this stage; Ctrl-C saves and stops, the same command continues", style="dim")
        )
        return rows


def stage_cells(status: RoundStatus | None) -> list[Text]:
    """Return one cell per stage: its symbol and name."""
    if status is None:
        return [Text("waiting", style="dim")]
    return [Text(f"{SYMBOLS[stage.state][0]} {stage.name}", style=SYMBOLS[stage.state][1]) for stage in status.stages]


def _with_eta(progress: dict[str, Any], done: float, elapsed: float) -> dict[str, Any]:
    if "eta_seconds" in progress or not 0 < done < 1:
        return progress
    return {**progress, "eta_seconds": elapsed * (1 - done) / done}

"""Starts ``rstar run`` detached from the terminal, with its output in a log, for ``rstar submit`` on this machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rstar.local.children import POLL_SECONDS
from rstar.local.lock import driver_pid
from rstar.local.log_tail import last_lines


class BackgroundError(RuntimeError):
    """The driver failed before it held the lock; the message has the last lines of its log."""


def run_log(work: Path) -> Path:
    """Return the log of the drivers that run in the background."""
    return work / "run.log"


def start_in_background(command: Sequence[str], work: Path) -> int:
    """Start ``command``, a driver for ``work``; return its pid once it holds the lock or has ended with code 0.

    Raises ``BackgroundError``.
    """
    work.mkdir(parents=True, exist_ok=True)
    log = run_log(work)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    while (code := process.poll()) is None:
        if driver_pid(work) == str(process.pid):
            return process.pid
        time.sleep(POLL_SECONDS)
    if code != 0:
        raise BackgroundError("\n".join([f"the driver ended at once (log: {log})", *last_lines(log)]))
    return process.pid

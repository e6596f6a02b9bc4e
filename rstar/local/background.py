"""A driver that goes on when the command that started it has ended, and the terminal too.

It is the same ``rstar run``; all that is special is that it is detached and writes to a log. The module refuses to
start one beside another driver, and to keep one alive that ends.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rstar.local.children import POLL_SECONDS
from rstar.local.lock import driver_pid
from rstar.local.log_tail import last_lines


class BackgroundError(RuntimeError):
    """The driver ended at once; the message has its last words."""


def run_log(work: Path) -> Path:
    """Return the log of the drivers that ran in the background."""
    return work / "run.log"


def start_in_background(command: Sequence[str], work: Path) -> int:
    """Start ``command``, a driver for ``work``, and return its pid once it is at work there, or has ended well.

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
        raise BackgroundError("\n".join([f"the run ended at once (log: {log})", *last_lines(log)]))
    return process.pid

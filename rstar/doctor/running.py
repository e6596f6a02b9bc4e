"""Runs checks side by side. A check that raises or hangs becomes a finding of its own and never ends the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from rstar.doctor.finding import Check, Finding


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Return the findings of all checks, in the order of ``checks``. Each has its own time limit from now on."""
    started = time.monotonic()
    answers = [_start(one) for one in checks]
    findings: list[Finding] = []
    for one, answer in zip(checks, answers, strict=True):
        try:
            findings += answer.get(timeout=max(0.0, started + one.seconds - time.monotonic()))
        except queue.Empty:
            findings.append(
                Finding(
                    one.name,
                    "failed",
                    f"the check did not end within {one.seconds:g} s",
                    "look for a disk, a network or a driver that hangs, and run the doctor again",
                )
            )
    return findings


def _start(one: Check) -> queue.SimpleQueue[Sequence[Finding]]:
    """Run the check in a daemon thread: a system call that hangs must not keep the process from ending."""
    answer: queue.SimpleQueue[Sequence[Finding]] = queue.SimpleQueue()

    def work() -> None:
        try:
            found = one.run()
        except Exception as error:  # whatever a check of a broken machine raises
            text = " ".join(str(error).split())
            message = f"the check itself failed: {type(error).__name__}{': ' if text else ''}{text}"
            found = [Finding(one.name, "failed", message, "mend what the error names, or report it as a fault")]
        answer.put(found)

    threading.Thread(target=work, name=f"doctor: {one.name}", daemon=True).start()
    return answer

"""Rounds in a store on this machine: what ``rstar run`` left there, and what it is told to do.

Wishes go through the control file that the driver looks at; a submission starts a driver in the background. The
module refuses to touch a driver in any other way.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.location import AttemptName, LogLine, Reading, Said, ServiceName, found_round
from rstar.cli.options import opened_store
from rstar.local.background import BackgroundError, run_log, start_in_background
from rstar.local.control import Control
from rstar.local.lock import driver_pid
from rstar.local.log_files import Line, attempt_log, follow_lines, read_lines, service_logs
from rstar.local.work import round_names, round_status, work_folder

if TYPE_CHECKING:
    from rstar.rounds.spec import EvolutionRound
    from rstar.rounds.status import RoundStatus

SUBMITTED = "submitted.yaml"


class StorePlace:
    """The store at ``uri``."""

    def __init__(self, uri: str) -> None:
        self.words = f"the store {uri}"
        self.options = f"--store {shlex.quote(uri)}"
        self._uri = uri
        self._store = opened_store(uri)
        self._work = work_folder(self._store)

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the last statuses that drivers wrote."""
        found = {name: round_status(self._work, name) for name in round_names(self._work)}
        return {name: status for name, status in found.items() if status is not None}

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Say who is at work, and which wishes wait for a driver."""
        pid = driver_pid(self._work)
        notes = [f"at work: pid {pid}"] if pid else []
        if not pid and any(status.phase == "Running" for status in shown.values()):
            notes.append("nobody is at work now; the same 'rstar run' goes on")
        for name, status in shown.items():
            wish = self._control(name).read()
            if wish.cancel and status.phase != "Failed":
                notes.append(f"round {name} is to be cancelled")
            elif wish.suspend:
                word = "is suspended" if status.phase == "Suspended" else "is to be suspended"
                notes.append(f"round {name} {word}; 'rstar resume {name} {self.options}' goes on")
        return notes

    def submit(self, files: Sequence[Path], tell: Callable[[str], None]) -> dict[str, str]:
        """Start ``rstar run`` in the background for the rounds of all files, after the same checks."""
        rounds, text = self._checked(files)
        file = self._work.absolute() / SUBMITTED
        if pid := driver_pid(self._work):
            if file.exists() and file.read_text() == text:
                tell(f"pid {pid} is at work on them already")
                return {item.name: "unchanged" for item in rounds}
            raise CommandError(
                f"another run is at work in {self.words} (pid {pid}): submit again when it has ended, "
                f"or suspend, cancel or interrupt it",
                FAILED,
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(file)
        uri = self._uri if "://" in self._uri else str(Path(self._uri).absolute())
        command = [sys.executable, "-m", "rstar.cli.main", "run", str(file), "--store", uri, "--lines"]
        try:
            pid = str(start_in_background(command, self._work))
        except BackgroundError as error:
            raise CommandError(str(error), FAILED) from None
        tell(f"pid {pid} is at work on them in the background (log: {run_log(self._work)})")
        return {item.name: "started" for item in rounds}

    def suspend(self, name: str) -> Said:
        """Wish for suspension."""
        self._unless_over(name, "suspended")
        control = self._control(name)
        wish = control.read()
        if wish.suspend:
            return Said(False, f"round {name} is suspended already")
        control.write(replace(wish, suspend=True))
        how = f"'rstar resume {name} {self.options}' goes on"
        if driver_pid(self._work):
            return Said(True, f"round {name} is being suspended: its compute is released, finished work is kept; {how}")
        return Said(True, f"nobody is at work in {self.words}: round {name} will wait in the next 'rstar run'; {how}")

    def resume(self, name: str) -> Said:
        """Take the wish for suspension back."""
        status = found_round(self, name, self.rounds())
        control = self._control(name)
        wish = control.read()
        if wish.cancel:
            raise CommandError(
                f"round {name} was cancelled; to run it all the same, give it another name or delete {control.path}"
            )
        control.write(replace(wish, suspend=False))
        if driver_pid(self._work):
            return Said(wish.suspend, f"round {name} {'goes on' if wish.suspend else 'is not suspended'}")
        if status.phase == "Succeeded":
            return Said(wish.suspend, f"round {name} is complete")
        return Said(
            wish.suspend,
            f"nobody is at work in {self.words}: the same 'rstar run' or 'rstar submit' goes on with round {name}",
        )

    def cancel(self, name: str) -> Said:
        """Wish for the end."""
        control = self._control(name)
        wish = control.read()
        if wish.cancel:
            return Said(False, f"round {name} is cancelled already")
        self._unless_over(name, "cancelled")
        control.write(replace(wish, cancel=True))
        if driver_pid(self._work):
            return Said(True, f"round {name} is being cancelled: its compute is released, finished work is kept")
        return Said(True, f"round {name} is cancelled: the next 'rstar run' will not go on with it")

    def attempt_log(self, name: str, attempt: AttemptName, reading: Reading) -> Iterator[LogLine]:
        """Read the attempt's file; it is over when the journal says so, or nobody is at work."""
        path = attempt_log(self._work / name, attempt.stage, attempt.number)

        def over() -> bool:
            status = round_status(self._work, name)
            attempts = status.attempts if status is not None else ()
            live = any(
                (item.stage, item.number) == (attempt.stage, attempt.number) and item.state in {"pending", "running"}
                for item in attempts
            )
            return not live or driver_pid(self._work) is None

        # A pending attempt may be about to open its log.
        if not path.exists() and (not reading.follow or over()):
            raise LookupError(f"{path} is not there")
        return _lines([path], reading, over)

    def service_log(self, name: str, service: ServiceName, reading: Reading, *, every: bool) -> Iterator[LogLine]:
        """Read the files of the service's processes, which serve one round after another."""
        folder = self._work / "services"
        first = service_logs(folder, service, every=every)
        if not first:
            raise LookupError(f"no {service} service has run in {self.words}")
        if not reading.follow:
            return _lines(first, reading, lambda: True)
        lines = follow_lines(
            lambda: [*first, *service_logs(folder, service)], lambda: driver_pid(self._work) is None, reading.last
        )
        return (LogLine(*line) for line in lines)

    def _checked(self, files: Sequence[Path]) -> tuple[list[EvolutionRound], str]:
        from rstar.cli.rounds_files import checked_rounds, rounds_text
        from rstar.local.driver import round_number

        rounds = checked_rounds(files, self._store, lambda name: round_number(self._work, name))
        return rounds, rounds_text(rounds)

    def _control(self, name: str) -> Control:
        return Control(self._work / name)

    def _unless_over(self, name: str, done: str) -> None:
        status = found_round(self, name, self.rounds())
        if status.phase == "Succeeded":
            raise CommandError(f"round {name} is complete: there is nothing to be {done}")


def _lines(paths: Sequence[Path], reading: Reading, over: Callable[[], bool]) -> Iterator[LogLine]:
    lines: Iterator[Line] = (
        follow_lines(lambda: paths, over, reading.last) if reading.follow else read_lines(paths, reading.last)
    )
    return (LogLine(*line) for line in lines)

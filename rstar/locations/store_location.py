"""Rounds in a store on this machine: the files that ``rstar run`` wrote there, and requests to its driver.

Requests are written to the control file, which the driver reads; a submission starts a driver in the background.
Neither signals nor ends a driver.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rstar.local.background import BackgroundError, run_log, start_in_background
from rstar.local.control import Control
from rstar.local.lock import driver_pid
from rstar.local.log_files import Line, attempt_log, follow_lines, read_lines, service_logs
from rstar.local.work import round_names, round_status, work_folder
from rstar.locations.errors import RoundsError, RoundsInputError
from rstar.locations.location import (
    AttemptName,
    ChangeResult,
    LogLine,
    LogOptions,
    ServiceName,
    find_round,
    made_by_other_code,
)
from rstar.locations.stores import absolute_store, opened_store
from rstar.store.atomic import atomic_write

if TYPE_CHECKING:
    from rstar.rounds.spec import EvolutionRound
    from rstar.rounds.status import RoundStatus
    from rstar.store.store import Store

SUBMITTED = "submitted.yaml"


class StoreLocation:
    """The store at ``uri``."""

    def __init__(self, uri: str) -> None:
        self.description = f"the store {uri}"
        self.options = f"--store {shlex.quote(uri)}"
        self._uri = uri
        self._store = opened_store(uri)
        self._work = work_folder(self._store)

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the last statuses that drivers wrote."""
        found = {name: round_status(self._work, name) for name in round_names(self._work)}
        return {name: status for name, status in found.items() if status is not None}

    def store(self) -> Store:
        """Return the store."""
        return self._store

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Return which driver is running, and which requests are not carried out yet."""
        pid = driver_pid(self._work)
        notes = [f"driver running: pid {pid}"] if pid else []
        if not pid and any(status.phase == "Running" for status in shown.values()):
            notes.append("no driver is running; the same 'rstar run' continues")
        for name, status in shown.items():
            request = self._control(name).read()
            if request.cancel and status.phase != "Failed":
                notes.append(f"round {name} will be cancelled")
            elif request.suspend:
                state = "is suspended" if status.phase == "Suspended" else "will be suspended"
                notes.append(f"round {name} {state}; {self._how_to_resume(name)}")
        return notes + made_by_other_code(
            shown, lambda name, stage: f"'rstar run FILE --redo {name}/{stage}' makes it and what follows again"
        )

    def makes_rounds(self) -> bool:
        """Return False: a driver records all rounds of its file when it starts."""
        return False

    def is_driven(self) -> bool:
        """Return whether a driver is running."""
        return driver_pid(self._work) is not None

    def artefacts(self, name: str) -> Store:
        """Return the store itself."""
        return self._store

    def submit(self, files: Sequence[Path], notify: Callable[[str], None]) -> dict[str, str]:
        """Check the rounds of all files as ``rstar run`` does, and start it in the background for them."""
        rounds, text = self._checked(files)
        file = self._work.absolute() / SUBMITTED
        if pid := driver_pid(self._work):
            if file.exists() and file.read_text() == text:
                notify(f"pid {pid} is running them already")
                return {item.name: "unchanged" for item in rounds}
            raise RoundsError(
                f"another driver is running in {self.description} (pid {pid}): submit again when it has ended, "
                f"or suspend, cancel or interrupt it"
            )
        with atomic_write(file) as handle:
            handle.write(text.encode())
        command = [
            sys.executable,
            "-m",
            "rstar.cli.main",
            "run",
            str(file),
            "--store",
            absolute_store(self._uri),
            "--lines",
        ]
        try:
            pid = str(start_in_background(command, self._work))
        except BackgroundError as error:
            raise RoundsError(str(error)) from None
        notify(f"pid {pid} is running them in the background (log: {run_log(self._work)})")
        return {item.name: "started" for item in rounds}

    def suspend(self, name: str) -> ChangeResult:
        """Request suspension in the control file."""
        self._require_unfinished(name, "suspended")
        control = self._control(name)
        request = control.read()
        if request.suspend:
            return ChangeResult(False, f"round {name} is suspended already")
        control.write(replace(request, suspend=True))
        if driver_pid(self._work):
            effect = f"round {name} is being suspended: its compute is released and finished work is kept"
        else:
            effect = (
                f"no driver is running in {self.description}: the next 'rstar run' will keep round {name} suspended"
            )
        return ChangeResult(True, f"{effect}; {self._how_to_resume(name)}")

    def resume(self, name: str) -> ChangeResult:
        """Withdraw the request for suspension."""
        status = find_round(self, name, self.rounds())
        control = self._control(name)
        request = control.read()
        if request.cancel:
            raise RoundsInputError(
                f"round {name} was cancelled; to run it again, give it another name or delete {control.path}"
            )
        control.write(replace(request, suspend=False))
        if driver_pid(self._work):
            return ChangeResult(
                request.suspend, f"round {name} {'is resumed' if request.suspend else 'is not suspended'}"
            )
        if status.phase == "Succeeded":
            return ChangeResult(request.suspend, f"round {name} is complete")
        return ChangeResult(
            request.suspend,
            f"no driver is running in {self.description}: the same 'rstar run' or 'rstar submit' continues round {name}",
        )

    def cancel(self, name: str) -> ChangeResult:
        """Request cancellation in the control file."""
        control = self._control(name)
        request = control.read()
        if request.cancel:
            return ChangeResult(False, f"round {name} is cancelled already")
        self._require_unfinished(name, "cancelled")
        control.write(replace(request, cancel=True))
        if driver_pid(self._work):
            return ChangeResult(
                True, f"round {name} is being cancelled: its compute is released and finished work is kept"
            )
        return ChangeResult(True, f"round {name} is cancelled: the next 'rstar run' will not continue it")

    def attempt_log(self, name: str, attempt: AttemptName, options: LogOptions) -> Iterator[LogLine]:
        """Read the attempt's log file. The attempt has ended by the journal, or when no driver is running."""
        path = attempt_log(self._work / name, attempt.stage, attempt.number)

        def has_ended() -> bool:
            status = round_status(self._work, name)
            attempts = status.attempts if status is not None else ()
            live = any(
                (item.stage, item.number) == (attempt.stage, attempt.number) and item.state in {"pending", "running"}
                for item in attempts
            )
            return not live or driver_pid(self._work) is None

        # A pending attempt may be about to open its log.
        if not path.exists() and (not options.follow or has_ended()):
            raise LookupError(f"{path} does not exist")
        return _lines([path], options, has_ended)

    def service_log(self, name: str, service: ServiceName, options: LogOptions, *, every: bool) -> Iterator[LogLine]:
        """Read the files of the service's processes, which serve one round after another."""
        folder = self._work / "services"
        first = service_logs(folder, service, every=every)
        if not first:
            raise LookupError(f"no {service} service has run in {self.description}")
        if not options.follow:
            return _lines(first, options, lambda: True)
        lines = follow_lines(
            lambda: [*first, *service_logs(folder, service)], lambda: driver_pid(self._work) is None, options.last
        )
        return (LogLine(*line) for line in lines)

    def _checked(self, files: Sequence[Path]) -> tuple[list[EvolutionRound], str]:
        from rstar.local.driver import round_number
        from rstar.locations.rounds_files import checked_rounds, rounds_text

        rounds = checked_rounds(files, self._store, lambda name: round_number(self._work, name))
        return rounds, rounds_text(rounds)

    def _control(self, name: str) -> Control:
        return Control(self._work / name)

    def _how_to_resume(self, name: str) -> str:
        return f"'rstar resume {name} {self.options}' resumes it"

    def _require_unfinished(self, name: str, done: str) -> None:
        status = find_round(self, name, self.rounds())
        if status.phase == "Succeeded":
            raise RoundsInputError(f"round {name} is complete: there is nothing to be {done}")


def _lines(paths: Sequence[Path], options: LogOptions, has_ended: Callable[[], bool]) -> Iterator[LogLine]:
    lines: Iterator[Line] = (
        follow_lines(lambda: paths, has_ended, options.last) if options.follow else read_lines(paths, options.last)
    )
    return (LogLine(*line) for line in lines)

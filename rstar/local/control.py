"""The changes that a user requests of a round on this machine: ``control.json`` beside its journal.

The driver reads it on every pass and passes it to the planner. It is a file and not a signal, because it outlives the
driver: a request that is made while no driver runs holds for the next run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rstar.rounds.programs import json_object
from rstar.store.atomic import atomic_write

FILE_NAME: Final = "control.json"


@dataclass(frozen=True, slots=True)
class RequestedChanges:
    """``suspend``: release all compute and wait. ``cancel``: end the round for good."""

    suspend: bool = False
    cancel: bool = False


class Control:
    """The requested changes of one round, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._version: tuple[int, int, int] | None = None
        self._requested = RequestedChanges()

    def read(self) -> RequestedChanges:
        """Return the current request; a broken file is none. Costs one ``stat`` while the file is unchanged."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._version, self._requested = None, RequestedChanges()
            return self._requested
        # Every write is another file, so the inode distinguishes two writes within one tick of the clock.
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if version != self._version:
            self._requested = _read_changes(self.path)
            self._version = version
        return self._requested

    def write(self, requested: RequestedChanges) -> None:
        """Replace the request atomically and durably; an empty request deletes the file."""
        if requested == RequestedChanges():
            self.path.unlink(missing_ok=True)
            return
        with atomic_write(self.path) as file:
            file.write(json.dumps({name: True for name, value in asdict(requested).items() if value}).encode())


def _read_changes(path: Path) -> RequestedChanges:
    try:
        content = json_object(path.read_bytes())
    except OSError:
        return RequestedChanges()
    return RequestedChanges(suspend=content.get("suspend") is True, cancel=content.get("cancel") is True)

"""What a user asks of a round on this machine: ``control.json`` beside its journal, read by the driver in every look.

A file and not a signal, because it outlives the driver: what was asked for while nobody was at work holds for the
next run. Written atomically, so that a reader sees the old wish or the new one. The module refuses to carry out
anything: the driver gives the wish to the planner.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rstar.store.atomic import atomic_write

FILE_NAME: Final = "control.json"


@dataclass(frozen=True, slots=True)
class Wish:
    """``suspend``: release all compute and wait. ``cancel``: end the round for good."""

    suspend: bool = False
    cancel: bool = False


class Control:
    """The wish for one round, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._seen: tuple[int, int, int] | None = None
        self._wish = Wish()

    def read(self) -> Wish:
        """Return the wish as it is now; a file that was broken by hand is none. Costs a ``stat`` while nothing has changed."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._wish = None, Wish()
            return self._wish
        # Every write is another file, so the inode tells two writes within one tick of the clock apart.
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._wish = _wish(self.path)
            self._seen = seen
        return self._wish

    def write(self, wish: Wish) -> None:
        """Replace the wish atomically and durably; with nothing to wish for, the file goes."""
        if wish == Wish():
            self.path.unlink(missing_ok=True)
            return
        content = json.dumps({name: True for name, value in asdict(wish).items() if value})
        with atomic_write(self.path) as file:
            file.write(content.encode())


def _wish(path: Path) -> Wish:
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return Wish()
    if not isinstance(content, dict):
        return Wish()
    return Wish(suspend=content.get("suspend") is True, cancel=content.get("cancel") is True)

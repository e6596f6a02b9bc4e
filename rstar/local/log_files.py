"""The logs of stages and services on this machine: their names, and their lines while they are still written."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

FOLLOW_SECONDS: Final = 0.2
_BLOCK_BYTES: Final = 65_536

Line = tuple[str, str]
"""(name of the log, one line of it)"""


def attempt_log(round_folder: Path, stage: str, number: int) -> Path:
    """Return the log file of an attempt; ``round_folder`` is the round's in the work folder."""
    return round_folder / "logs" / f"{stage}-{number}.log"


def service_log(services_folder: Path, kind: str, number: int, replica: int) -> Path:
    """Return the log file of one replica of a service; ``number`` counts the starts of services in one run."""
    return services_folder / f"{kind}-{number}-{replica}.log"


def service_logs(services_folder: Path, kind: str, *, every: bool = False) -> list[Path]:
    """Return the log files of the last start of a service, or of ``every`` start, oldest first.

    A new run counts from 1 again and overwrites old files, so starts are ordered by modification time.
    """
    form = re.compile(rf"{re.escape(kind)}-(\d+)-(\d+)\.log")
    found = [(path, match) for path in services_folder.glob(f"{kind}-*.log") if (match := form.fullmatch(path.name))]
    modified: dict[str, int] = {}
    for path, match in found:
        modified[match[1]] = max(modified.get(match[1], 0), path.stat().st_mtime_ns)
    ordered = sorted(found, key=lambda item: (modified[item[1][1]], int(item[1][2])))
    return [path for path, match in ordered if every or match[1] == ordered[-1][1][1]]


def read_lines(paths: Sequence[Path], last: int | None = None) -> Iterator[Line]:
    """Yield the lines of each file, or only its ``last`` ones. Raises ``FileNotFoundError``."""
    for path in paths:
        with path.open("rb") as handle:
            handle.seek(_start(path, last))
            for line in handle:
                yield path.stem, _text(line)


def follow_lines(
    paths: Callable[[], Sequence[Path]], over: Callable[[], bool], last: int | None = None
) -> Iterator[Line]:
    """Yield lines as they are written, until ``over``. ``paths`` may grow; a missing file is read once it exists.

    ``last``: how many of the lines that a file has when it is opened.
    """
    open_logs: dict[Path, _Tail] = {}
    while True:
        # Asked before reading, so that all lines that were written until then are read.
        ended = over()
        for path in paths():
            if path not in open_logs and path.exists():
                open_logs[path] = _Tail(path, _start(path, last))
        for path, tail in open_logs.items():
            yield from ((path.stem, line) for line in tail.lines(complete=ended))
        if ended:
            return
        time.sleep(FOLLOW_SECONDS)


class _Tail:
    """The new lines of a growing file."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self._position = position
        self._unfinished = b""

    def lines(self, *, complete: bool) -> Iterator[str]:
        """Yield the new lines. ``complete``: also a last line without a line break."""
        with self._path.open("rb") as handle:
            if handle.seek(0, os.SEEK_END) < self._position:
                self._position, self._unfinished = 0, b""  # a new run has overwritten it
            handle.seek(self._position)
            while block := handle.read(_BLOCK_BYTES):
                *lines, self._unfinished = (self._unfinished + block).split(b"\n")
                yield from map(_text, lines)
            self._position = handle.tell()
        if complete and self._unfinished:
            yield _text(self._unfinished)


def _start(path: Path, last: int | None) -> int:
    """Return the position at which the ``last`` lines begin; 0 for all."""
    if last is None:
        return 0
    with path.open("rb") as handle:
        position = end = handle.seek(0, os.SEEK_END)
        while position > 0 and last > 0:
            size = min(_BLOCK_BYTES, position)
            position -= size
            handle.seek(position)
            block = handle.read(size)
            # The very last byte is skipped: a line break there ends the last line, and no line follows.
            upto = size - (position + size == end)
            while (upto := block.rfind(b"\n", 0, upto)) >= 0:
                last -= 1
                if last == 0:
                    return position + upto + 1
        return end if last == 0 else 0


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r\n")

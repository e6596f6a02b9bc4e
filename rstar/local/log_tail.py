"""The last useful lines of a log, and the one that names the error, for the message of a failure.

Blank lines and the lines that torchrun prints around an error are left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

_TAIL_BYTES: Final = 32_768
_LONGEST_REASON: Final = 400
# The lines that torchrun prints after the worker's own traceback.
_NOISE: Final = re.compile(
    r"^\s*$|^[=\-]{5,}|^[WEI]\d{4} |torch/distributed|ChildFailedError|^\s*(Failures:|Root Cause|<NO_OTHER|\[\d+\]:|time  |host  |rank  |exitcode  |error_file|traceback :)"
)
_ERROR: Final = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b|\berror\b", re.IGNORECASE)


def last_lines(log: Path, count: int = 12) -> list[str]:
    """Return the last ``count`` useful lines; none when there is no log."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = handle.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [_readable(line) for line in text.splitlines() if not _NOISE.search(line)][-count:]


def error_line(log: Path) -> str:
    """Return the last line that names an error, else the last line; '' for an empty log."""
    lines = last_lines(log)
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors or lines or [""])[-1].strip()[:_LONGEST_REASON]


def _readable(line: str) -> str:
    """Return a structured log line as its event and its error."""
    if not line.startswith("{"):
        return line.rstrip()
    try:
        entry = json.loads(line)
    except ValueError:
        return line.rstrip()
    if not isinstance(entry, dict) or "event" not in entry:
        return line.rstrip()
    details = [str(entry[key]) for key in ("error", "reason", "exception") if entry.get(key)]
    return ": ".join([str(entry["event"]), *details])

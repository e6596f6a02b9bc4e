"""How a program failed, for people: what Python itself prints, without the frames of what runs the program.

Standard library only: this runs inside the interpreters. It refuses to let a hostile exception get out, or to be longer
than it may.
"""

from __future__ import annotations

import builtins
from types import TracebackType

from rstar_executor.area import TRACEBACK_BYTES

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

_HEAD, _TAIL = TRACEBACK_BYTES // 16, TRACEBACK_BYTES // 8  # characters, of up to four bytes


def whole(error: BaseException, filename: str, text: str) -> str:
    """Return the traceback of ``error``, got out of the program ``text`` that was compiled under ``filename``."""
    try:
        # Not before: few programs are run for people, and each module costs every fork.
        import linecache
        import traceback

        linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
        lines = traceback.format_exception(type(error), error, _own(error.__traceback__, filename))
        formatted = "".join(lines).replace("\0", " ")
    except BaseException:
        return ""
    if len(formatted) <= _HEAD + _TAIL:
        return formatted
    return f"{formatted[:_HEAD]}\n...\n{formatted[-_TAIL:]}"


def _own(frames: TracebackType | None, filename: str) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename != filename:
        frames = frames.tb_next
    return frames

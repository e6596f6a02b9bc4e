"""What happens inside the child: the program runs as ``__main__``, and its end is noted in shared memory.

The note needs no descriptor, so that nothing a program prints, writes or closes can pass for it or prevent it. A
program that hunts the note down in its own memory forges nothing but its own result, which it could have had for the
printing: deadlines and limits are judged outside. Standard library only: this runs inside the zygotes.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import mmap
import os
import random
import sys
import types
from typing import NoReturn

from rstar_executor.isolation import release_last_words

NOTE_BYTES = 4096
UNPREPARED, RUNNING, OK, EXCEPTION, MEMORY = range(5)
"""The first byte of the note; the rest is the reason, up to the first NUL."""

FILENAME = "<program>"
_REASON_CHARACTERS = 300


def run(source: str, note: mmap.mmap) -> NoReturn:
    """Run ``source``, note how it ended and leave the process. Never returns into the zygote's code."""
    # Bound before the program can patch them.
    leave, own_pid, pid_now = os._exit, os.getpid(), os.getpid
    stdout = sys.stdout
    code = 1
    try:
        note[0] = RUNNING
        # The module reseeds itself from the system after every fork.
        random.seed(0)
        ended, reason = _ending(source)
        try:
            stdout.flush()
        except ValueError:  # the program closed it
            pass
        except OSError as error:
            ended, reason = ended if ended != OK else EXCEPTION, reason or _describe(error)
        # A process the program forked comes by here too when it does not leave by itself: it has no say.
        if pid_now() == own_pid:
            note[1:] = reason.encode("utf-8", "replace")[: NOTE_BYTES - 2].ljust(NOTE_BYTES - 1, b"\0")
            note[0] = ended
            code = 0
    finally:
        leave(code)


def _ending(source: str) -> tuple[int, str]:
    first = (OK, "")
    for part in (_program, _shut_down):
        try:
            part(source)
        except SystemExit as error:
            if error.code is not None and error.code != 0:
                first = first if first[0] != OK else (EXCEPTION, _describe(error))
        except MemoryError as error:
            release_last_words()
            first = first if first[0] != OK else (MEMORY, _describe(error))
        except BaseException as error:
            first = first if first[0] != OK else (EXCEPTION, _describe(error))
    return first


def _program(source: str) -> None:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    exec(compile(source, FILENAME, "exec", dont_inherit=True), main.__dict__)


def _shut_down(_: str) -> None:
    """Do what the interpreter does at its end, which ``os._exit`` skips: threads, exit handlers, buffers."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(AttributeError, ValueError):  # replaced by something else, or closed
        sys.stdout.flush()


def _describe(error: BaseException) -> str:
    """Return one line for the model, e.g. ``ZeroDivisionError: division by zero (line 3)``."""
    line = None
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == FILENAME:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    try:
        if isinstance(error, SyntaxError) and error.filename == FILENAME:
            text, line = error.msg, error.lineno
        else:
            text = str(error)
    except BaseException:
        text = ""
    text = " ".join(text[: 4 * _REASON_CHARACTERS].replace("\0", " ").split())
    if len(text) > _REASON_CHARACTERS:
        text = f"{text[:_REASON_CHARACTERS]}..."
    name = type(error).__name__
    where = f" (line {line})" if line is not None else ""
    return f"{name}: {text}{where}" if text else f"{name}{where}"

"""Runs the steps of a program in the name space of one ``__main__`` and describes how they ended.

Each step is compiled and run on its own, and standard output is flushed after each, so that a program ends the same way
whether it runs at once or continues from a snapshot. Where a step is not a sequence of complete statements, the program
is compiled as a whole. Standard library only: this runs inside the interpreters.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import os
import sys
import types
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import TRACEBACK_BYTES
from rstar_executor.sandbox.limits import release_report_reserve

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

FILENAME = "<program>"
_REASON_CHARACTERS = 300
_HEAD, _TAIL = TRACEBACK_BYTES // 16, TRACEBACK_BYTES // 8  # characters, of up to four bytes
_SHARED_MEMORY = ("/dev/shm", "/psm_")
_STDOUT, _STDERR = sys.stdout, sys.stderr
_EXCEPTHOOK = sys.excepthook
_INTERRUPTED = 130
"""Exit code of a script with an uncaught KeyboardInterrupt, as a shell reports it."""
_NAME_OF = type.__dict__["__name__"].__get__


class ProgramEnd:
    """How a program has ended so far: its first error, with a traceback where the program's ``text`` is given.

    For a ``script``, the traceback goes to standard error, and the error has an ``exit_code``.
    """

    def __init__(self, text: str | None = None, script: bool = False) -> None:
        self.state = shared_memory.OK
        self.reason = self.traceback = ""
        self.exit_code = 0
        self._text, self._script = text, script

    def record(self, state: int, error: BaseException) -> None:
        """Record an uncaught ``error``, unless there was one before."""
        if self.state == shared_memory.OK:
            self.state = state
            self.reason = describe(error)
            if self._script:
                self.exit_code = report_uncaught(error, self._text or "")
            elif self._text is not None:
                self.traceback = format_traceback(error, FILENAME, self._text)


def fresh_main() -> dict[str, Any]:
    """Return the name space of a new ``__main__``."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __file__=sys.argv[0])
    sys.modules["__main__"] = main
    return main.__dict__


def run_steps(
    steps: Sequence[str], line: int, names: dict[str, Any], tracebacks: bool = False, script: bool = False
) -> ProgramEnd:
    """Compile all ``steps``, then run them; ``line`` is the number of lines that the program has run before.

    ``tracebacks``: record the traceback of an error; ``script``: print it on standard error.
    """
    end = ProgramEnd("".join(steps) if tracebacks or script else None, script)
    if script:
        # Modules among the files of a script can be imported, as from the folder of a file that Python runs.
        sys.path.insert(0, os.getcwd())
    try:
        codes = _compiled(steps, line)
    except MemoryError as error:
        release_report_reserve()
        end.record(shared_memory.MEMORY, error)
        return end
    except BaseException as error:
        end.record(shared_memory.SYNTAX, error)
        return end
    for code in codes:
        guard(end, exec, code, names)
        flush(end)
        if end.state != shared_memory.OK:
            break
    return end


def guard(end: ProgramEnd, function: Any, *arguments: Any) -> None:
    """Call ``function`` and record its uncaught exception. Raises ``SystemExit`` where a program exits with success."""
    try:
        function(*arguments)
    except SystemExit as error:
        code = error.code
        if code is None or (type(code) in (int, bool) and code == 0):
            raise
        end.record(shared_memory.EXCEPTION, error)
    except MemoryError as error:
        release_report_reserve()
        end.record(shared_memory.MEMORY, error)
    except BaseException as error:
        end.record(shared_memory.EXCEPTION, error)


def flush(end: ProgramEnd) -> None:
    """Flush standard output; a failure to write it counts as an exception of the program."""
    try:
        _STDOUT.flush()
    except ValueError:  # the program closed it
        pass
    except OSError as error:
        end.record(shared_memory.EXCEPTION, error)


def shut_down() -> None:
    """Do what Python does at exit and ``os._exit`` skips. Exceptions are ignored: they do not change Python's exit code either."""
    threading = sys.modules.get("threading")
    for last in (getattr(threading, "_shutdown", None), atexit._run_exitfuncs, _flush_replacement):
        if last is not None:
            with contextlib.suppress(BaseException):
                last()


def _flush_replacement() -> None:
    sys.stdout.flush()


def report_uncaught(error: BaseException, text: str) -> int:
    """Print an uncaught ``error`` of the script ``text`` on standard error, as Python does; return the exit code."""
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            if isinstance(error.code, int):
                return error.code & 0xFF
            print(error.code, file=sys.stderr)
        elif sys.excepthook is not _EXCEPTHOOK:
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            sys.stderr.write(_traceback(error, FILENAME, text) or f"{describe(error)}\n")
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def leave_script(names: dict[str, Any]) -> None:
    """Drop the ``names`` of a script and flush its outputs, as Python does at exit: open files are written to the end."""
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and name.startswith("_") == private:
                with contextlib.suppress(BaseException):
                    names[name] = None
    with contextlib.suppress(BaseException):
        gc.collect()
    for stream in (sys.stdout, sys.stderr, _STDOUT, _STDERR):
        with contextlib.suppress(BaseException):
            stream.flush()


def _compiled(steps: Sequence[str], line: int) -> list[types.CodeType]:
    codes = []
    try:
        before = line
        for step in steps:
            # Python would take a string at the start of a later step for the module's docstring.
            lead = "\n" * (before - 1) + "0\n" if before else ""
            codes.append(compile(lead + step, FILENAME, "exec", dont_inherit=True))
            before += step.count("\n")
    except SyntaxError:
        if line or len(steps) == 1:
            raise
        return [compile("".join(steps), FILENAME, "exec", dont_inherit=True)]
    return codes


def describe(error: BaseException) -> str:
    """Return one line for the model, such as ``ZeroDivisionError: division by zero (line 3)``."""
    line, name, text = None, "Exception", ""
    try:
        name = _NAME_OF(type(error))
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == FILENAME:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        if isinstance(error, SyntaxError) and error.filename == FILENAME:
            text, line = str(error.msg), error.lineno
        elif isinstance(error, OSError) and str(error.filename).startswith(_SHARED_MEMORY):
            text = (
                "programs have no shared memory: of multiprocessing, Value, Array, Barrier and SharedMemory do not work"
            )
        else:
            text = str(error)
        # Converted to exactly str: slicing a subclass would run the program's code.
        text = " ".join("".join((text, ""))[: 4 * _REASON_CHARACTERS].replace("\0", " ").split())
    except BaseException:
        text = ""
    if len(text) > _REASON_CHARACTERS:
        text = f"{text[:_REASON_CHARACTERS]}..."
    where = f" (line {line})" if type(line) is int else ""
    return f"{name}: {text}{where}" if text else f"{name}{where}"


def format_traceback(error: BaseException, filename: str, text: str) -> str:
    """Return the traceback of ``error``, raised by the program ``text`` that was compiled as ``filename``."""
    formatted = _traceback(error, filename, text).replace("\0", " ")
    if len(formatted) <= _HEAD + _TAIL:
        return formatted
    return f"{formatted[:_HEAD]}\n...\n{formatted[-_TAIL:]}"


def _traceback(error: BaseException, filename: str, text: str) -> str:
    try:
        # Imported late: few calls ask for tracebacks, and each imported module costs every fork.
        import linecache
        import traceback

        # The last line ends as linecache ends it; otherwise the marks below that line are one column off.
        source = text if text.endswith("\n") else f"{text}\n"
        linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
        lines = traceback.format_exception(type(error), error, _own_frames(error.__traceback__, filename))
        return "".join(lines)
    except BaseException:
        return ""


def _own_frames(frames: TracebackType | None, filename: str) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename != filename:
        frames = frames.tb_next
    return frames

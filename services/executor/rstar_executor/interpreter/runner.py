"""What happens inside an interpreter: steps run in the name space of one ``__main__``, and their end is described.

Each step is compiled and run on its own, as in a file that is read piece by piece, and standard output is flushed after
each: so a program ends the same way whether it runs in one go or goes on from a snapshot. Where the pieces are no
statements of their own, the program is compiled as a whole. Standard library only: this runs inside the interpreters.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import sys
import types
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import TRACEBACK_BYTES
from rstar_executor.sandbox.limits import release_last_words

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

FILENAME = "<program>"
_REASON_CHARACTERS = 300
_HEAD, _TAIL = TRACEBACK_BYTES // 16, TRACEBACK_BYTES // 8  # characters, of up to four bytes
_STDOUT = sys.stdout
_NAME_OF = type.__dict__["__name__"].__get__


class Ending:
    """How a program ended so far; the first thing that went wrong stays, with a traceback where ``text`` is given."""

    def __init__(self, text: str | None = None) -> None:
        self.state = shared_memory.OK
        self.reason = self.traceback = ""
        self._text = text

    def note(self, state: int, error: BaseException) -> None:
        """Note that ``error`` got out."""
        if self.state == shared_memory.OK:
            self.state = state
            self.reason = describe(error)
            if self._text is not None:
                self.traceback = format_traceback(error, FILENAME, self._text)


def fresh_main() -> dict[str, Any]:
    """Return the name space of a new ``__main__``."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main.__dict__


def run_steps(steps: Sequence[str], line: int, names: dict[str, Any], at_length: bool = False) -> Ending:
    """Compile all ``steps``, then run them; ``line`` lines of the program ran before.

    ``at_length``: with a traceback of what goes wrong.
    """
    ending = Ending("".join(steps) if at_length else None)
    try:
        codes = _compiled(steps, line)
    except MemoryError as error:
        release_last_words()
        ending.note(shared_memory.MEMORY, error)
        return ending
    except BaseException as error:
        ending.note(shared_memory.SYNTAX, error)
        return ending
    for code in codes:
        guard(ending, exec, code, names)
        flush(ending)
        if ending.state != shared_memory.OK:
            break
    return ending


def guard(ending: Ending, function: Any, *arguments: Any) -> None:
    """Call ``function`` and note what gets out of it. Raises ``SystemExit`` where a program ends itself well."""
    try:
        function(*arguments)
    except SystemExit as error:
        code = error.code
        if code is None or (type(code) in (int, bool) and code == 0):
            raise
        ending.note(shared_memory.EXCEPTION, error)
    except MemoryError as error:
        release_last_words()
        ending.note(shared_memory.MEMORY, error)
    except BaseException as error:
        ending.note(shared_memory.EXCEPTION, error)


def flush(ending: Ending) -> None:
    """Flush standard output; output that cannot be written is an exception."""
    try:
        _STDOUT.flush()
    except ValueError:  # the program closed it
        pass
    except OSError as error:
        ending.note(shared_memory.EXCEPTION, error)


def shut_down() -> None:
    """Do what the interpreter does at its end, which ``os._exit`` skips; what gets out of it changes nothing there."""
    threading = sys.modules.get("threading")
    for last in (getattr(threading, "_shutdown", None), atexit._run_exitfuncs, _flush_replacement):
        if last is not None:
            with contextlib.suppress(BaseException):
                last()


def _flush_replacement() -> None:
    sys.stdout.flush()


def _compiled(steps: Sequence[str], line: int) -> list[types.CodeType]:
    codes = []
    try:
        before = line
        for step in steps:
            # A string that comes first in a later step is no docstring of the module.
            lead = "\n" * (before - 1) + "0\n" if before else ""
            codes.append(compile(lead + step, FILENAME, "exec", dont_inherit=True))
            before += step.count("\n")
    except SyntaxError:
        if line or len(steps) == 1:
            raise
        return [compile("".join(steps), FILENAME, "exec", dont_inherit=True)]
    return codes


def describe(error: BaseException) -> str:
    """Return one line for the model, e.g. ``ZeroDivisionError: division by zero (line 3)``."""
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
        else:
            text = str(error)
        # An exact text: a class of the program's own could do anything when it is cut.
        text = " ".join("".join((text, ""))[: 4 * _REASON_CHARACTERS].replace("\0", " ").split())
    except BaseException:
        text = ""
    if len(text) > _REASON_CHARACTERS:
        text = f"{text[:_REASON_CHARACTERS]}..."
    where = f" (line {line})" if type(line) is int else ""
    return f"{name}: {text}{where}" if text else f"{name}{where}"


def format_traceback(error: BaseException, filename: str, text: str) -> str:
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

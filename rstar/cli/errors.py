"""How a command reports an error: one sentence on standard error, and an exit code.

    0 done | 1 it ran and failed | 2 bad input, nothing was started | 130 Ctrl-C | 143 SIGTERM

A traceback means a fault of this program, never of the user's input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from rstar.locations.errors import RoundsError, RoundsInputError

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130


class CommandError(Exception):
    """The command cannot do its work. The message is printed as it is; ``code`` is the exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: CommandError | RoundsError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, CommandError):
        return error.code
    return BAD_INPUT if isinstance(error, RoundsInputError) else FAILED


def exit_by(command: Callable[[], object]) -> None:
    """Run a command line, print its error, and exit with its code."""
    try:
        command()
    except (CommandError, RoundsError) as error:
        for line in str(error).splitlines():
            print(f"rstar: {line}", file=sys.stderr)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

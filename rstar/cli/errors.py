"""How a command ends badly: one sentence on standard error, and an exit code that means something.

    0 done | 1 it ran and failed | 2 bad input, nothing was started | 130 Ctrl-C | 143 SIGTERM

A traceback is for faults of this program only, never for the user's.
"""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130


class CommandError(Exception):
    """The command cannot do what was asked. ``str`` is shown as it is; ``code`` is the exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code

"""The console of tables: as wide as the terminal, and wide enough for every column where there is none.

A pipe or a log has no width; Rich's 80 columns would cut figures. ``COLUMNS`` decides where it is set.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL: Final = 160


def wide_console() -> Console:
    """Return a console on standard output."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else _WIDTH_WITHOUT_TERMINAL)

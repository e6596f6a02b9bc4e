"""The Rich console for tables.

A pipe or a log has no width, and Rich's default of 80 columns would cut figures, so a wider default is used there.
``COLUMNS`` overrides it.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL: Final = 160


def wide_console() -> Console:
    """Return a console on standard output, wide enough for every column of a table."""
    width_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if width_known else _WIDTH_WITHOUT_TERMINAL)

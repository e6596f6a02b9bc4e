"""The Rich console for tables, and text of models and problems that a terminal must not obey.

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


def visible(text: str, kept: str = "") -> str:
    """Return ``text`` with control characters, except those in ``kept``, made visible: a terminal would obey them."""
    return "".join(c if c in kept or c.isprintable() else c.encode("unicode_escape").decode() for c in text)

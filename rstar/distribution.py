"""The name of this distribution on the package index. ``rstar`` there is another project, so a bare name would mislead.

The import package and the command keep the name ``rstar``.
"""

from __future__ import annotations

from typing import Final

DISTRIBUTION: Final = "rstar-math"


def extra(name: str) -> str:
    """Return the command that installs an extra.

    >>> extra("jobs")
    "pip install 'rstar-math[jobs]'"
    """
    return f"pip install '{DISTRIBUTION}[{name}]'"

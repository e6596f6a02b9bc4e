"""The version of the code that makes results: the release, and a digest of the source files.

A release number alone would not tell fixed code from the code before the fix. Each manifest has the version of the code
that made it, and ``rstar status`` tells which stages were made by another one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rstar.distribution import DISTRIBUTION

PACKAGES: Final = ("rstar", "rstar_executor", "rstar_jobs", "rstar_policy", "rstar_ppm", "rstar_search")
"""The packages that results depend on; those that an image lacks are left out."""

_DIGITS: Final = 12


@cache
def code_version() -> str:
    """Return ``RELEASE+DIGEST``. Raises ``ValueError`` while the package is being reinstalled: it has no version then."""
    release: str | None = version(DISTRIBUTION)
    if release is None:
        raise ValueError("rstar is being reinstalled, so its code_version is unknown: try again when that is done")
    whole = hashlib.sha256()
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(Path(folder).rglob("*.py")):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                whole.update(f"{name}/{path.relative_to(folder).as_posix()} {content}\n".encode())
    return f"{release}+{whole.hexdigest()[:_DIGITS]}"

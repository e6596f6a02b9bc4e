"""What a key of the store may look like: relative POSIX paths that mean the same in a folder and in a bucket.

It refuses every key that could leave the store, collide with a file half written, or differ between the two.
"""

from __future__ import annotations

from typing import Final

TEMPORARY: Final = ".tmp-"
"""Begins the name of a file that is still being written; no key may contain a segment like it."""


def check_key(key: str) -> str:
    """Return ``key``. Raises ``ValueError`` when it is not a relative path of plain segments."""
    segments = key.split("/")
    if not key or any(part in {"", ".", ".."} or part.startswith(TEMPORARY) for part in segments):
        raise ValueError(f"{key!r} is no key of a store: use a relative path like rounds/r1/select/manifest.json")
    if "\\" in key or any(ord(c) < 32 for c in key):
        raise ValueError(f"{key!r} is no key of a store: backslashes and control characters are not allowed")
    return key

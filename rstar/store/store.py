"""The store of a round's artefacts: one small interface over a folder and an S3 bucket.

Keys are relative POSIX paths. A write is atomic: a reader sees the whole object or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rstar.store.atomic import TEMPORARY


class StoreError(Exception):
    """An operation of the store failed: no room, no permission, or no server. The message is one sentence."""


class Store(Protocol):
    """Objects by key. Implementations: ``folder_store.FolderStore``, ``s3_store.S3Store``."""

    uri: str

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        ...

    def digest(self, key: str) -> str:
        """Return the sha256 of the object, in hex. Raises ``KeyError`` when it is not there."""
        ...

    def read(self, key: str) -> bytes:
        """Return the object. Raises ``KeyError`` when it is not there."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Store the object atomically, in place of one of the same key."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Store the object atomically unless there is one; return whether it was stored.

        Of concurrent callers one gets True, and its object stays.
        """
        ...

    def upload(self, key: str, path: Path, digest: str | None = None) -> None:
        """Store a local file atomically; ``digest`` is its sha256, where the caller has it already."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Copy the object to a local file, atomically. Raises ``KeyError`` when it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object. Does nothing when it is not there."""
        ...


def check_key(key: str) -> str:
    """Return ``key``. Raises ``ValueError`` when it is not a relative path of plain segments."""
    segments = key.split("/")
    if not key or any(part in {"", ".", ".."} or part.startswith(TEMPORARY) for part in segments):
        raise ValueError(f"{key!r} is no key of a store: use a relative path like rounds/r1/select/manifest.json")
    if "\\" in key or any(ord(c) < 32 for c in key):
        raise ValueError(f"{key!r} is no key of a store: backslashes and control characters are not allowed")
    return key

"""A folder as the store of a laptop run.

Covered: a reader sees a whole object or none, also after a crash or a power cut (``atomic``). Not covered: locks
between writers of one key (the last one wins), and permissions.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from rstar.store.atomic import TEMPORARY, atomic_write
from rstar.store.digests import file_digest
from rstar.store.store import StoreError, check_key

_MISSING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderStore:
    """Objects are the files below ``folder``; their keys are the relative paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.uri = self.folder.as_uri()

    def path(self, key: str) -> Path:
        """Return the path of the object, or of the folder of objects."""
        return self.folder / check_key(key)

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        return self.path(key).is_file()

    def digest(self, key: str) -> str:
        """Return the sha256 of the object, in hex. Raises ``KeyError`` when it is not there."""
        try:
            return file_digest(self.path(key))
        except _MISSING:
            raise KeyError(key) from None

    def read(self, key: str) -> bytes:
        """Return the object. Raises ``KeyError`` when it is not there."""
        try:
            return self.path(key).read_bytes()
        except _MISSING:
            raise KeyError(key) from None

    def write(self, key: str, data: bytes) -> None:
        """Store the object atomically. Raises ``StoreError`` when there is no room or no permission."""
        self._place(key, lambda file: file.write(data))

    def create(self, key: str, data: bytes) -> bool:
        """Store the object atomically unless there is one; return whether it was stored."""
        path = self.path(key)
        complete = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with atomic_write(complete) as file:
                file.write(data)
            # Unlike a rename, a link never replaces a file.
            os.link(complete, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._failed(key, error) from error
        finally:
            complete.unlink(missing_ok=True)
        return True

    def upload(self, key: str, path: Path, digest: str | None = None) -> None:
        """Store a local file atomically. Raises ``StoreError`` when there is no room or no permission."""
        with path.open("rb") as source:
            self._place(key, lambda file: shutil.copyfileobj(source, file))

    def download(self, key: str, path: Path) -> None:
        """Copy the object to a local file, atomically. Raises ``KeyError`` when it is not there."""
        source = self.path(key)
        if not source.is_file():
            raise KeyError(key)
        FolderStore(path.absolute().parent).upload(path.name, source)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, sorted."""
        top = self.folder / prefix.rpartition("/")[0]
        found = (
            path.relative_to(self.folder).as_posix()
            for path in top.rglob("*")
            if path.is_file() and not path.name.startswith(TEMPORARY)
        )
        yield from sorted(key for key in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove the object and the folders that are empty without it. Does nothing when it is not there."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        for parent in path.relative_to(self.folder).parents:
            try:
                (self.folder / parent).rmdir()
            except OSError:
                return

    def _place(self, key: str, fill: Callable[[BinaryIO], Any]) -> None:
        try:
            with atomic_write(self.path(key)) as file:
                fill(file)
        except OSError as error:
            raise self._failed(key, error) from error

    def _failed(self, key: str, error: OSError) -> StoreError:
        if error.errno in _NO_ROOM:
            return StoreError(f"no room for {key} in {self.folder}: free some space and start again")
        return StoreError(f"cannot write {key} in {self.folder}: {error.strerror or error}")

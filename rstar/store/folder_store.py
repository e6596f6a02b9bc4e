"""A folder as the store of a laptop run.

Covered: a reader sees a whole object or none, also after a crash or a power cut, because a write goes to a
temporary file in the same folder, is synced and then renamed. Not covered: locks between writers of one key
(the last one wins), and permissions.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from rstar.store.store import TEMPORARY, StoreError, check_key

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderStore:
    """Objects are files below ``folder``; keys are their relative paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.uri = self.folder.as_uri()

    def path(self, key: str) -> Path:
        """Return where the object, or the folder of objects, is."""
        return self.folder / check_key(key)

    def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        return self.path(key).is_file()

    def read(self, key: str) -> bytes:
        """Return the object. Raises ``KeyError`` when it is not there."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(key) from None

    def write(self, key: str, data: bytes) -> None:
        """Store the object atomically. Raises ``StoreError`` when there is no room or no permission."""
        self._place(key, lambda file: file.write(data))

    def upload(self, key: str, path: Path) -> None:
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
        """Remove the object, and folders that it leaves empty; nothing happens when it is not there."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        for parent in path.relative_to(self.folder).parents:
            try:
                (self.folder / parent).rmdir()
            except OSError:
                return

    def _place(self, key: str, fill: Callable[[BinaryIO], Any]) -> None:
        target = self.path(key)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise StoreError(f"no room for {key} in {self.folder}: free some space and start again") from error
            raise StoreError(f"cannot write {key} in {self.folder}: {error.strerror or error}") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's entry is data too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

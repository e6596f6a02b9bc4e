"""The working directory of a warden's programs, emptied after each of them; a script finds files in it and leaves some.

Symbolic links that a program left are neither read nor followed. No process of the program may still run, or it could
swap folders for links meanwhile. Standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC
_MOVED_UP = "rstar-moved-up-"


class Scratch:
    """The directory at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def empty(self) -> bool:
        """Say whether nothing is in it and its mode is unchanged."""
        try:
            return stat.S_IMODE(os.stat(self.path).st_mode) == 0o700 and not os.listdir(self.path)
        except OSError:
            return False

    def clean(self) -> None:
        """Remove its contents and restore its mode."""
        empty(self.path)

    def write(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files, each with a relative path of plain names. Raises ``OSError``."""
        for path, data in files:
            *folders, name = path.split("/")
            with self._folder(folders, create=True) as folder:
                descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600, dir_fd=folder)
                with open(descriptor, "wb", buffering=0) as file:
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]

    def read(self, paths: Sequence[str], most_bytes: int) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Return the contents of the ordinary files at ``paths`` by index, and the indices of those for which no room is left.

        A path that is missing, is no ordinary file, leads through a link or has a second name (a hard link) is left out.
        """
        found, too_large = [], []
        for index, path in enumerate(paths):
            with contextlib.suppress(OSError):
                data = self._read(path, most_bytes)
                if data is None:
                    too_large.append(index)
                else:
                    found.append((index, data))
                    most_bytes -= len(data)
        return found, too_large

    def _read(self, path: str, most_bytes: int) -> bytes | None:
        *folders, name = path.split("/")
        with self._folder(folders, create=False) as folder:
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _PLAIN, dir_fd=folder)
            with open(descriptor, "rb", buffering=0) as file:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
                    raise OSError(f"{path} is no ordinary file")
                return file.read() if about.st_size <= most_bytes else None

    @contextlib.contextmanager
    def _folder(self, folders: Sequence[str], create: bool) -> Iterator[int]:
        """Open the folder below this directory, without following links."""
        current = os.open(self.path, _FOLDER)
        try:
            for folder in folders:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, 0o700, dir_fd=current)
                inner = os.open(folder, _FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)


def empty(path: str) -> None:
    """Remove the contents of the directory ``path``, as far as possible."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        top = os.open(path, _FOLDER)
        try:
            serial = itertools.count()
            while names := os.listdir(top):
                if not sum([_remove(top, name, serial) for name in names]):
                    return
        finally:
            os.close(top)


def remove(path: str) -> None:
    """Remove the directory ``path`` with its contents, as far as possible."""
    with contextlib.suppress(OSError):
        empty(path)
        os.rmdir(path)


def _remove(top: int, name: str, serial: Iterator[int]) -> bool:
    """Remove an entry of ``top``; folders inside it are moved up to ``top`` first, so that no path is too long or too deep."""
    try:
        if not _is_folder(top, name):
            os.unlink(name, dir_fd=top)
            return True
        inner = _open_folder(top, name)
        try:
            for child in os.listdir(inner):
                if _is_folder(inner, child):
                    os.close(_open_folder(inner, child))
                    os.rename(child, f"{_MOVED_UP}{next(serial)}", src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(child, dir_fd=inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    return True


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _open_folder(parent: int, name: str) -> int:
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)

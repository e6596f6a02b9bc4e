"""The working directory of a warden's programs, emptied after each of them.

Symbolic links that a program left are removed, never followed. No process of the program may still run, or it could
swap folders for links meanwhile. Standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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

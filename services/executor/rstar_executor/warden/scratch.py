"""The working directory of the programs of one warden, empty for each of them.

Standard library only. It refuses to follow what a program left: links are removed, never what they point to. It relies
on nothing of the program running any more.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE = "rstar-moved-up-"


class Scratch:
    """The directory at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def empty(self) -> bool:
        """Say whether nothing is in it, and it is as it was."""
        try:
            return stat.S_IMODE(os.stat(self.path).st_mode) == 0o700 and not os.listdir(self.path)
        except OSError:
            return False

    def clean(self) -> None:
        """Make it empty again."""
        empty(self.path)


def empty(path: str) -> None:
    """Remove what is in the directory ``path``, as far as it lets itself be removed."""
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
    """Remove the directory ``path`` and what is in it, as far as it lets itself be removed."""
    with contextlib.suppress(OSError):
        empty(path)
        os.rmdir(path)


def _remove(top: int, name: str, serial: Iterator[int]) -> bool:
    """Remove an entry of ``top``; folders in it move up first, so that no path is ever too long or too deep."""
    try:
        if not _is_folder(top, name):
            os.unlink(name, dir_fd=top)
            return True
        inner = _open_up(top, name)
        try:
            for child in os.listdir(inner):
                if _is_folder(inner, child):
                    os.close(_open_up(inner, child))
                    os.rename(child, f"{_ASIDE}{next(serial)}", src_dir_fd=inner, dst_dir_fd=top)
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


def _open_up(parent: int, name: str) -> int:
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)

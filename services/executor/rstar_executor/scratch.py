"""The working directory of the programs of one warden, empty for each of them.

Standard library only. It refuses to follow what a program left: links are removed, never what they point to. It relies
on nothing of the program running any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat


class Scratch:
    """The directory at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def empty(self) -> bool:
        """Say whether nothing is in it."""
        try:
            return not os.listdir(self.path)
        except OSError:
            return False

    def clean(self) -> None:
        """Make it empty again; most programs never touch it."""
        if not self.empty():
            empty(self.path)


def empty(path: str) -> None:
    """Remove what is in the directory ``path``, as far as it lets itself be removed."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        for name in os.listdir(path):
            _remove(os.path.join(path, name))


def remove(path: str) -> None:
    """Remove the directory ``path`` and what is in it, as far as it lets itself be removed."""
    with contextlib.suppress(OSError):
        empty(path)
        os.rmdir(path)


def _remove(path: str) -> None:
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        os.chmod(path, 0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                inner = os.path.join(folder, name)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
        shutil.rmtree(path)
    except (OSError, RecursionError):
        pass

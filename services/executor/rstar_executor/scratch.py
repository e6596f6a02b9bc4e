"""The working directory of the programs of one zygote, empty for each of them.

Standard library only: this runs inside the zygotes. It refuses to follow what a program left: links are removed, never
what they point to. It relies on nothing of the program running any more.
"""

# pathlib is not loaded: it would weigh on every fork.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH114, PTH118, PTH208

from __future__ import annotations

import contextlib
import os
import stat
import time


class Scratch:
    """One directory, made anew when a program has left something in it."""

    def __init__(self, parent: str) -> None:
        self.path = os.path.join(parent, "work")
        os.mkdir(self.path)

    def clean(self) -> None:
        """Make the directory empty again; most programs never touch it. Raises ``OSError`` when that is impossible."""
        try:
            mode = os.lstat(self.path).st_mode
            if stat.S_ISDIR(mode) and stat.S_IMODE(mode) == 0o700 and not os.listdir(self.path):
                return
        except OSError:
            pass
        aside = f"{self.path}-{time.monotonic_ns()}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
        os.mkdir(self.path)
        remove(aside)


def remove(path: str) -> None:
    """Remove the directory ``path`` as far as it lets itself be removed."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        import shutil  # only programs that write files pay for it

        os.chmod(path, 0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                inner = os.path.join(folder, name)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
        shutil.rmtree(path)
    except (OSError, RecursionError):
        pass

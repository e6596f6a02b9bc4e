"""The testbed's programs: built once from pinned Go modules, then found in a cache.

    $RSTAR_TESTBED_CACHE or ~/.cache/rstar-testbed / MODULE-KEY / NAME        KEY: digest of sources, versions, Go

A binary is in the cache whole or not at all, and of two builders one waits for the other. Nothing is ever removed
from the cache: a folder whose key is of the past can be deleted by hand.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rstar_testbed.modules import MODULES, Module, go

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where built programs are kept."""
    if named := os.environ.get("RSTAR_TESTBED_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rstar-testbed"


def _tell(line: str) -> None:
    print(f"testbed: {line}", file=sys.stderr, flush=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built_folder(module: Module) -> Path:
    """Where the module's programs are, or will be once they are built."""
    return cache_folder() / f"{module.name}-{module.key()}"


def build(module: Module, say: Say = _tell) -> Path:
    """Return the folder with the module's programs, built first if the cache has none."""
    folder = built_folder(module)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f"{module.name}.lock"):
        if folder.is_dir():
            return folder
        say(f"building {module.name} {module.version}; the first time this takes up to four minutes")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{module.name}-partial-") as scratch:
            whole = Path(scratch) / "programs"
            whole.mkdir()
            first, *others = module.names
            go(
                "build",
                "-ldflags",
                f"-s -w {module.stamp}",
                "-o",
                str(whole / first),
                module.package,
                folder=module.folder,
            )
            for name in others:
                (whole / name).symlink_to(first)
            whole.replace(folder)
        size = (folder / module.names[0]).stat().st_size
        say(f"built {module.name} in {time.monotonic() - started:.0f} s, {size / 1e6:.0f} MB")
    return folder


class Binaries(Mapping[str, Path]):
    """Programs by name, as if all were built: one that the cache lacks is built when it is asked for."""

    def __init__(self, say: Say = _tell) -> None:
        self._say = say
        self._found: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        """Path of the program."""
        if name not in self._found:
            module = next((module for module in MODULES if name in module.names), None)
            if module is None:
                raise KeyError(name)
            folder = build(module, self._say)
            self._found |= {each: folder / each for each in module.names}
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return (name for module in MODULES for name in module.names)

    def __len__(self) -> int:
        return sum(len(module.names) for module in MODULES)


def search_path(names: Collection[str]) -> str:
    """Return what to put in front of PATH so that a shell finds those of these programs that are built."""
    folders = [built_folder(module) for module in MODULES if set(names) & set(module.names)]
    return os.pathsep.join(str(folder) for folder in folders if folder.is_dir())

"""The testbed's programs: built once from pinned Go modules, then taken from a cache.

    $RSTAR_TESTBED_CACHE or ~/.cache/rstar-testbed / MODULE-KEY / NAME        KEY: digest of sources, versions, Go

A binary appears in the cache once it is complete; a second builder waits for the first. Nothing is ever removed from the
cache: a folder with an old key can be deleted by hand.
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

Report = Callable[[str], None]


def cache_folder() -> Path:
    """Return the folder of the built programs."""
    if named := os.environ.get("RSTAR_TESTBED_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rstar-testbed"


def _print(line: str) -> None:
    print(f"testbed: {line}", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, so that no other process does at the same time; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built_folder(module: Module) -> Path:
    """Return the folder of the module's programs, built or not."""
    return cache_folder() / f"{module.name}-{module.key()}"


def build(module: Module, report: Report = _print) -> Path:
    """Return the folder with the module's programs; build them first if the cache lacks them."""
    folder = built_folder(module)
    if folder.is_dir():
        return folder
    with locked(folder.parent / f"{module.name}.lock"):
        if folder.is_dir():
            return folder
        report(f"building {module.name} {module.version}; the first time this takes minutes")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{module.name}-partial-") as scratch:
            complete = Path(scratch) / "programs"
            complete.mkdir()
            first, *others = module.names
            go(
                "build",
                "-ldflags",
                f"-s -w {module.stamp}",
                "-o",
                str(complete / first),
                module.package,
                folder=module.folder,
            )
            for name in others:
                (complete / name).symlink_to(first)
            complete.replace(folder)
        size = (folder / module.names[0]).stat().st_size
        report(f"built {module.name} in {time.monotonic() - started:.0f} s, {size / 1e6:.0f} MB")
    return folder


class Binaries(Mapping[str, Path]):
    """Programs by name. A program that the cache lacks is built at its first use."""

    def __init__(self, report: Report = _print) -> None:
        self._report = report
        self._found: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        """Return the path of the program."""
        if name not in self._found:
            module = next((module for module in MODULES if name in module.names), None)
            if module is None:
                raise KeyError(name)
            folder = build(module, self._report)
            self._found |= {each: folder / each for each in module.names}
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return (name for module in MODULES for name in module.names)

    def __len__(self) -> int:
        return sum(len(module.names) for module in MODULES)


def search_path(names: Collection[str]) -> str:
    """Return the PATH entries for those of these programs that are built."""
    folders = [built_folder(module) for module in MODULES if set(names) & set(module.names)]
    return os.pathsep.join(str(folder) for folder in folders if folder.is_dir())

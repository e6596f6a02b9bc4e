"""A folder of fetched models and data by digest, which many processes and pods use at once.

    CACHE/DIGEST/NAME        complete: it is renamed to this place when all its files are there
    CACHE/.tmp-DIGEST/NAME   a download in progress, or a killed one: the next fetch continues it
    CACHE/.locks/            one lock of the download and one of the use for each digest

Covered: every file is verified at each fetch, and a damaged one is fetched again; of processes that fetch the same digest
one downloads and the others wait; a process that is killed loses its locks at once (``flock``); beyond ``limit`` bytes
the least recently used digests are deleted, but none that a live process has fetched. Not covered: file systems without
``flock``, and the hub's own cache, which ``huggingface_hub`` keeps (``rstar.hub``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from rstar.store.atomic import TEMPORARY
from rstar.store.digests import file_digest, files_of

LOCKS: Final = ".locks"
_DELETED: Final = ".deleted"
_DIGEST: Final = re.compile("[0-9a-f]{64}")

log = logging.getLogger(__name__)

_in_use: dict[Path, BinaryIO] = {}
"""The locks of all that this process has fetched. They are kept until it ends, because models are mapped from their files."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch: its path below ``CACHE/DIGEST``, its sha256 in hex, and its size in bytes (0: unknown)."""

    path: str
    sha256: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SharedCache:
    """The cache in ``folder``; ``limit``: the most bytes of what is not in use, None: no bound."""

    folder: Path
    limit: int | None = None

    def fetch(self, digest: str, files: Sequence[RemoteFile], download: Callable[[str, Path], None]) -> Path:
        """Return ``CACHE/DIGEST`` with exactly these files.

        ``download`` is called with a file's path and its place, and must write the place atomically. Raises ``ValueError``
        when a downloaded file does not have its sha256, or when the files alone exceed the limit; and what ``download``
        raises.
        """
        target = self.folder / digest
        self._use(digest)
        if not _faults(target, files):
            return target
        with _locked(self._lock(digest, "download")):
            if target.exists():
                _complete(target, files, download)
                return target
            self._make_room(digest, sum(file.size for file in files))
            partial = self._partial(digest)
            partial.mkdir(parents=True, exist_ok=True)
            _complete(partial, files, download)
            partial.rename(target)
        self._make_room(digest, 0)
        return target

    def _use(self, digest: str) -> None:
        """Hold the shared lock of ``digest`` until this process ends, and note the time of use."""
        path = self._lock(digest, "use")
        if path not in _in_use:
            file = path.open("ab")
            fcntl.flock(file, fcntl.LOCK_SH)
            _in_use[path] = file
        os.utime(path)

    def _make_room(self, digest: str, needed: int) -> None:
        """Delete the least recently used others until there is room for ``needed`` bytes more."""
        if self.limit is None:
            return
        if needed > self.limit:
            raise ValueError(
                f"{needed:,} bytes are more than the whole cache {self.folder} may hold ({self.limit:,}): raise its size"
            )
        for deleted in self.folder.glob(f"{TEMPORARY}*{_DELETED}"):
            shutil.rmtree(deleted, ignore_errors=True)
        sizes = {name: self._size(name) for name in self._digests()}
        total = sum(sizes.values())
        others = sorted(sizes.keys() - {digest}, key=self._last_use)
        for name in others:
            if total + needed <= self.limit:
                return
            if self._delete(name):
                log.info("%s: deleted %s, %d bytes, to make room", self.folder, name, sizes[name])
                total -= sizes[name]
        if total + needed > self.limit:
            log.warning(
                "%s has %d bytes, more than its limit %d: all the rest is in use", self.folder, total, self.limit
            )

    def _digests(self) -> set[str]:
        """Return what the cache holds, complete or in part."""
        names = {path.name.removeprefix(TEMPORARY) for path in self.folder.iterdir()}
        return {name for name in names if _DIGEST.fullmatch(name)}

    def _size(self, digest: str) -> int:
        size = 0
        for place in (self.folder / digest, self._partial(digest)):
            for file in place.rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # another process deletes or completes it
                    size += file.stat().st_size if file.is_file() else 0
        return size

    def _last_use(self, digest: str) -> float:
        lock = self._lock(digest, "use")
        return lock.stat().st_mtime if lock.exists() else 0.0

    def _delete(self, digest: str) -> bool:
        """Delete a digest unless a process uses or downloads it; return whether it is gone."""
        with _at_once(self._lock(digest, "use")) as unused, _at_once(self._lock(digest, "download")) as idle:
            if not (unused and idle):
                return False
            for place in (self.folder / digest, self._partial(digest)):
                if place.exists():
                    # Renamed first: a killed deletion must not leave a part under the name of the whole.
                    doomed = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}{_DELETED}"
                    place.rename(doomed)
                    shutil.rmtree(doomed, ignore_errors=True)
        return True

    def _partial(self, digest: str) -> Path:
        return self.folder / f"{TEMPORARY}{digest}"

    def _lock(self, digest: str, purpose: str) -> Path:
        folder = self.folder / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{digest}.{purpose}"


def _complete(folder: Path, files: Sequence[RemoteFile], download: Callable[[str, Path], None]) -> None:
    """Fetch the files of ``folder`` that are missing or damaged, and delete all others."""
    for stray in (path for path in folder.rglob(f"{TEMPORARY}*") if path.is_file()):
        stray.unlink()
    digests = {file.path: file.sha256 for file in files}
    for path in _faults(folder, files):
        place = folder / path
        if path not in digests:
            place.unlink()
            continue
        if place.exists():
            log.warning("%s is damaged: fetched again", place)
        place.parent.mkdir(parents=True, exist_ok=True)
        download(path, place)
        if file_digest(place) != digests[path]:
            place.unlink()
            raise ValueError(f"{path} does not match its digest {digests[path]}; was the store changed by hand?")


def _faults(folder: Path, files: Sequence[RemoteFile]) -> list[str]:
    """Return the paths that are missing in ``folder``, differ from ``files``, or do not belong there."""
    present = dict(files_of(folder)) if folder.is_dir() else {}
    wrong = [file.path for file in files if file.path not in present or file_digest(present[file.path]) != file.sha256]
    return [*wrong, *(present.keys() - {file.path for file in files})]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock; wait for its owner, who loses it when killed."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: another process downloads it; waiting", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _at_once(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody has it; yield whether it is held."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True

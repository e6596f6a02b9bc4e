"""The cache that pods share: verified, resumed after a kill, one download for many, and bounded."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rstar.store.artifacts import cache_limit
from rstar.store.digests import combined_digest
from rstar.store.shared_cache import RemoteFile, SharedCache

WEIGHTS = {f"model/{name}": name.encode() * 1_000 for name in ("a", "b", "c")}
FORK = multiprocessing.get_context("fork")


def described(contents: dict[str, bytes]) -> tuple[str, list[RemoteFile]]:
    files = [RemoteFile(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()]
    return combined_digest((file.path, file.sha256) for file in files), files


class Remote:
    """A store that counts what is downloaded from it, also by forked processes."""

    def __init__(self, contents: dict[str, bytes], folder: Path) -> None:
        self.contents = contents
        self.digest, self.files = described(contents)
        self._log = folder / f"downloads-{self.digest[:8]}"
        self._log.touch()

    def download(self, path: str, place: Path) -> None:
        with self._log.open("a") as log:
            log.write(f"{path}\n")
        place.write_bytes(self.contents[path])

    @property
    def downloads(self) -> list[str]:
        return self._log.read_text().split()

    def fetch(self, cache: SharedCache) -> Path:
        return cache.fetch(self.digest, self.files, self.download)


def in_process(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own, whose locks end with it; return its exit code."""
    process = FORK.Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode if process.exitcode is not None else -1


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_fetch_downloads_nothing(tmp_path: Path) -> None:
    remote, cache = Remote(WEIGHTS, tmp_path), SharedCache(tmp_path / "cache")
    folder = remote.fetch(cache)
    assert folder == tmp_path / "cache" / remote.digest
    assert contents_of(folder) == WEIGHTS
    assert remote.fetch(cache) == folder
    assert sorted(remote.downloads) == sorted(WEIGHTS)


@pytest.mark.parametrize("damage", [b"other bytes", b"", None])
def test_a_damaged_file_is_fetched_again_and_a_strange_one_removed(tmp_path: Path, damage: bytes | None) -> None:
    remote, cache = Remote(WEIGHTS, tmp_path), SharedCache(tmp_path / "cache")
    folder = remote.fetch(cache)
    if damage is None:
        (folder / "model/b").unlink()
    else:
        (folder / "model/b").write_bytes(damage)
    (folder / "model/strange").touch()
    assert contents_of(remote.fetch(cache)) == WEIGHTS
    assert sorted(remote.downloads) == ["model/a", "model/b", "model/b", "model/c"]


def test_a_download_that_does_not_match_is_refused_and_leaves_nothing_complete(tmp_path: Path) -> None:
    remote = Remote({**WEIGHTS}, tmp_path)
    remote.contents["model/c"] = b"changed"
    with pytest.raises(ValueError, match="model/c does not match its digest"):
        remote.fetch(SharedCache(tmp_path / "cache"))
    assert not (tmp_path / "cache" / remote.digest).exists()


def test_a_killed_download_is_continued_with_the_files_that_are_complete(tmp_path: Path) -> None:
    remote, cache = Remote(WEIGHTS, tmp_path), SharedCache(tmp_path / "cache")

    def killed_at_the_second_file() -> None:
        def download(path: str, place: Path) -> None:
            if path == "model/b":
                place.with_name(".tmp-half").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            remote.download(path, place)

        cache.fetch(remote.digest, remote.files, download)

    assert in_process(killed_at_the_second_file) == -signal.SIGKILL
    assert not (cache.folder / remote.digest).exists()
    assert contents_of(remote.fetch(cache)) == WEIGHTS
    assert remote.downloads == ["model/a", "model/b", "model/c"]


def test_of_many_processes_one_downloads_and_the_others_wait(tmp_path: Path) -> None:
    remote, cache = Remote(WEIGHTS, tmp_path), SharedCache(tmp_path / "cache")

    def fetch() -> None:
        def slowly(path: str, place: Path) -> None:
            time.sleep(0.05)
            remote.download(path, place)

        assert contents_of(cache.fetch(remote.digest, remote.files, slowly)) == WEIGHTS

    processes = [FORK.Process(target=fetch) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 5
    assert sorted(remote.downloads) == sorted(WEIGHTS)


def remotes(folder: Path, count: int) -> list[Remote]:
    return [Remote({"model/w": bytes([number]) * 1_000}, folder) for number in range(count)]


def held(cache: SharedCache, names: Sequence[Remote]) -> list[int]:
    """Return the numbers of the remotes that the cache holds completely."""
    return [number for number, remote in enumerate(names) if (cache.folder / remote.digest).exists()]


def test_the_least_recently_used_digests_are_deleted_beyond_the_limit(tmp_path: Path) -> None:
    cache, names = SharedCache(tmp_path / "cache", limit=2_500), remotes(tmp_path, 4)
    for number in (0, 1, 0, 2, 3):
        assert in_process(lambda number=number: names[number].fetch(cache)) == 0  # type: ignore[misc]
    assert held(cache, names) == [2, 3]
    assert not list(cache.folder.glob(".tmp-*"))


def test_what_a_live_process_has_fetched_is_kept_and_freed_by_its_death(tmp_path: Path) -> None:
    cache, names = SharedCache(tmp_path / "cache", limit=1_500), remotes(tmp_path, 3)
    program = (
        "import sys, time; from pathlib import Path; from rstar.store.shared_cache import *\n"
        "files = [RemoteFile('model/w', sys.argv[3], 1000)]\n"
        "SharedCache(Path(sys.argv[1]), 1500).fetch(sys.argv[2], files, lambda _, place: place.write_bytes(bytes(1000)))\n"
        "print('fetched', flush=True); time.sleep(600)"
    )
    arguments = [str(cache.folder), names[0].digest, names[0].files[0].sha256]
    user = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == "fetched\n"
        assert in_process(lambda: names[1].fetch(cache)) == 0
        assert held(cache, names) == [0, 1]
    finally:
        user.kill()
        user.wait()
    assert in_process(lambda: names[2].fetch(cache)) == 0
    assert held(cache, names) == [2]


def test_a_killed_download_that_nobody_continues_is_deleted_for_room(tmp_path: Path) -> None:
    cache, names = SharedCache(tmp_path / "cache", limit=1_500), remotes(tmp_path, 2)
    partial = cache.folder / f".tmp-{names[0].digest}" / "model"
    partial.mkdir(parents=True)
    (partial / "w").write_bytes(bytes(1_000))
    names[1].fetch(cache)
    assert not partial.exists()


def test_files_that_exceed_the_whole_cache_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3,000 bytes are more than the whole cache .* may hold \(2,500\)"):
        Remote(WEIGHTS, tmp_path).fetch(SharedCache(tmp_path / "cache", limit=2_500))


@pytest.mark.parametrize(("text", "size"), [("20Gi", 20 * 2**30), ("1.5k", 1500), ("7", 7), ("", None)])
def test_the_limit_is_read_as_kubernetes_writes_it(text: str, size: int | None) -> None:
    assert cache_limit({"RSTAR_CACHE_SIZE": text}) == size


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="RSTAR_CACHE_SIZE=20 GB is no size"):
        cache_limit({"RSTAR_CACHE_SIZE": "20 GB"})

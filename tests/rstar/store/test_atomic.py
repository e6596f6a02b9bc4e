"""A file that is replaced atomically has its old content or the new one, whatever happens to the writer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rstar.store.atomic import TEMPORARY, atomic_write
from rstar.store.digests import files_of


def replace_content(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)


def test_the_folder_is_made_and_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for data in (b"first", b""):
        replace_content(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    replace_content(path, b"old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replace_content(tmp_path / "folder", b"new")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        replace_content(tmp_path / "file" / "below", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


HALF = """
import sys, time
from pathlib import Path
from rstar.store.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half of the new")
    file.flush()
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_killed_writer_leaves_the_old_content_and_a_file_that_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_content(path, b"old")
    with subprocess.Popen([sys.executable, "-c", HALF, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.kill()
    assert path.read_bytes() == b"old"
    assert files_of(tmp_path) == [("file", path)]
    assert all(other.name.startswith(TEMPORARY) for other in tmp_path.iterdir() if other != path)


def test_a_reader_beside_concurrent_writers_sees_the_whole_content_of_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([n]) * 100_000 for n in range(4)]
    replace_content(path, contents[0])

    def write(data: bytes) -> None:
        for _ in range(20):
            replace_content(path, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in contents]
    for writer in writers:
        writer.start()
    seen = {path.read_bytes() for _ in range(50)}
    for writer in writers:
        writer.join()
    assert seen | {path.read_bytes()} <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("durable", "expected"), [(True, ["sync temporary", "replace", "sync folder"]), (False, ["replace"])]
)
def test_the_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, expected: list[str]
) -> None:
    events: list[str] = []

    def fsync(descriptor: int) -> None:
        synced = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert synced == tmp_path or synced.read_bytes() == b"new"
        events.append("sync folder" if synced == tmp_path else "sync temporary")

    def replace(self: Path, target: Path) -> None:
        events.append("replace")
        os.rename(self, target)  # noqa: PTH104

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    with atomic_write(tmp_path / "file", durable=durable) as file:
        file.write(b"new")
    assert events == expected

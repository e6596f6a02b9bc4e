"""A sandboxed command sees a container and leaves nothing on the machine; an error in its start ends it at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rstar_testbed.kubelet import sandbox
from rstar_testbed.kubelet.sandbox import CANNOT_START, Sandbox, program_folders

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs mounts: run as root")
pytestmark = needs_root

Mounts = list[tuple[str, str, bool]]


@contextlib.contextmanager
def running(
    folder: Path,
    script: str,
    mounts: Mounts | None = None,
    *,
    programs: list[str] | None = None,
    read_only: bool = False,
    command: list[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a sandbox; kill what is left of it at the end."""
    scratch, file = folder / "scratch", folder / "sandbox.json"
    scratch.mkdir(exist_ok=True)
    Sandbox(
        command=command or ["bash", "-c", script],
        environment={"PATH": os.environ["PATH"]},
        directory="/",
        hostname="pod-x",
        scratch=str(scratch),
        mounts=mounts or [],
        programs=programs or [],
        read_only_root=read_only,
    ).write(file)
    arguments = [sys.executable, "-I", sandbox.__file__, str(file), str(os.getpid())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, script: str = "", mounts: Mounts | None = None, **options: object) -> tuple[int, str]:
    with running(folder, script, mounts, **options) as process:  # type: ignore[arg-type]
        output, _ = process.communicate()
        return process.returncode, output


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_volumes_are_at_their_paths_in_the_container_and_nowhere_on_the_machine(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("content")
    (tmp_path / "message").touch()
    before = Path("/proc/self/mountinfo").read_text()
    places = ["/etc/made-for-a-test", "/var/run/secrets/made-for-a-test", "/made-for-a-test"]
    mounts = [(str(tmp_path / "volume"), place, True) for place in places]
    mounts.append((str(tmp_path / "message"), "/dev/termination-log", False))
    script = (
        f"cat {'/file '.join(places)}/file; echo -n said > /dev/termination-log; touch {places[0]}/new || true; exit 7"
    )
    code, output = run(tmp_path, script, mounts)
    assert code == 7
    assert output.startswith("content" * 3)
    assert "Read-only file system" in output
    assert (tmp_path / "message").read_text() == "said"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not any(Path(place).exists() for place in places)


def test_other_writes_are_discarded_or_refused(tmp_path: Path) -> None:
    target = tmp_path / "machine"
    target.mkdir()
    assert run(tmp_path, f"echo written > {target}/file && cat {target}/file") == (0, "written\n")
    assert list(target.iterdir()) == []
    assert "Read-only file system" in run(tmp_path, f"touch {target}/file", read_only=True)[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a virtual environment inside it, as the paths of a clone are."""
    folder = tmp_path / "outside" / "clone"
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/program").write_text("installed")
    (folder / "source").write_text("code")
    return folder


@pytest.mark.parametrize("volume_read_only", [False, True])
@pytest.mark.parametrize("nested_first", [False, True])
def test_programs_stay_visible_where_a_volume_covers_them(
    tmp_path: Path, checkout: Path, volume_read_only: bool, nested_first: bool
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    programs = [str(checkout), str(checkout / "venv")]
    script = (
        f"cat {checkout}/source {checkout}/venv/bin/program; ls {tmp_path / 'outside'}; rm -rf {checkout} 2>/dev/null"
    )
    mounts = [(str(volume), str(tmp_path / "outside"), volume_read_only)]
    code, output = run(tmp_path, script, mounts, programs=programs[::-1] if nested_first else programs)
    assert (code, output) == (1, "codeinstalledclone\n")
    # Neither the command nor the removal of the container's folders reaches the files that were mounted in it.
    shutil.rmtree(volume)
    shutil.rmtree(tmp_path / "scratch")
    assert files_below(checkout) == ["source", "venv/bin/program"]


def test_a_link_to_a_program_leads_to_it_where_a_volume_covers_the_link(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "covered").mkdir()
    (tmp_path / "covered/python").symlink_to(checkout / "venv")
    (tmp_path / "volume").mkdir()
    mounts = [(str(tmp_path / "volume"), str(tmp_path / "covered"), False)]
    script = f"cat {tmp_path}/covered/python/bin/program"
    assert run(tmp_path, script, mounts, programs=[str(tmp_path / "covered/python")]) == (0, "installed")


def test_a_mount_that_names_a_program_folder_itself_covers_it(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "volume").mkdir()
    mounts = [(str(tmp_path / "volume"), str(checkout), False)]
    assert run(tmp_path, f"ls {checkout}", mounts, programs=[str(checkout)]) == (0, "")


def test_the_program_folders_are_those_of_this_environment_by_their_names_and_their_real_paths() -> None:
    folders = program_folders()
    for needed in (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]):
        assert {str(needed.absolute()), str(needed.resolve())} <= set(folders)


@pytest.mark.parametrize("covered", ["tmp", "root"])
def test_the_environments_python_starts_where_volumes_cover_its_folders(tmp_path: Path, covered: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    command = [sys.executable, "-c", "import rstar_testbed, grpc; print('imported')"]
    mounts = [(str(volume), f"/{covered}", False)]
    assert run(tmp_path, mounts=mounts, programs=program_folders(), command=command) == (0, "imported\n")


def test_the_command_is_process_1_of_a_host_of_its_own(tmp_path: Path) -> None:
    script = "echo $$ $(hostname) $(ls /proc | grep -c '^[0-9]') $(test -c /dev/null && echo null)"
    assert run(tmp_path, script)[1].startswith("1 pod-x")


def test_the_command_starts_with_default_signals(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # As nohup and a shell's & leave it.
    try:
        _, output = run(tmp_path, "grep -E 'Sig(Blk|Ign)' /proc/self/status")
    finally:
        signal.signal(signal.SIGINT, before)
    # Signals 32 and 33 belong to glibc: no program can set them through it, and some parents leave them ignored.
    can_be_set = sum(1 << number - 1 for number in signal.valid_signals())
    assert [int(line.split()[1], 16) & can_be_set for line in output.splitlines()] == [0, 0]


def test_sigterm_is_passed_on_and_children_are_killed_with_the_command(tmp_path: Path) -> None:
    mark = f"{tmp_path.name}-child"
    script = f"exec -a {mark} sleep 1000 & trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.1; done"
    with running(tmp_path, script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "bye\n"
        assert process.wait() == 3
    while mark in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "mounts", "message"),
    [
        (["no-such-program"], [], "No such file or directory"),
        (["true"], [("/no/such/source", "/mnt", False)], "cannot mount /.machine/no/such/source on /mnt"),
        (["null\0byte"], [], "embedded null"),
    ],
)
def test_a_container_that_cannot_start_ends_at_once_and_its_output_gives_the_reason(
    tmp_path: Path, command: list[str], mounts: Mounts, message: str
) -> None:
    code, output = run(tmp_path, command=command, mounts=mounts)
    assert code == CANNOT_START
    assert output.startswith("the container cannot start: ")
    assert message in output

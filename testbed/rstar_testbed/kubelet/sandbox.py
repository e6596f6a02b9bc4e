"""``python sandbox.py FILE PARENT``: runs one command as a container sees itself, and ends as it or process PARENT ends.

A program of its own that imports the standard library only. FILE is a :class:`Sandbox` as JSON. The command gets its own mounts, host name and process numbers: the machine's files
under a writable layer that vanishes with it, its volumes at their real places, a /dev of its own. It is process 1, as in
a container: what it does not handle does not end it, and its children die with it. SIGTERM is passed on.

Covered: files, mounts, names, processes. Not covered: the network (the machine's own), users (it is root), limits of CPU
and memory. This is no security boundary.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from types import FrameType
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWPID: Final = 0x20000000
MS_RDONLY: Final = 1
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
PR_SET_PDEATHSIG: Final = 1
CANNOT_START: Final = 128

_OLD_ROOT: Final = "/.machine"
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Sandbox:
    """What to run and how. ``mounts`` are (source, target, read only); ``scratch`` is an existing empty folder."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    hostname: str
    scratch: str
    mounts: list[tuple[str, str, bool]]
    read_only_root: bool

    def write(self, path: Path) -> None:
        """Write it for the program below."""
        path.write_text(dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Sandbox:
        """Read what :meth:`write` wrote."""
        return cls(**loads(path.read_text()))


def _must(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    _must(done, f"cannot mount {source} on {target}")


def _bind(source: str, target: str, read_only: bool = False) -> None:
    _mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        _mount("none", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _submounts() -> list[str]:
    """Where other file systems of the machine are mounted, outermost only; /dev and /proc are made anew."""
    points = sorted({line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()} - {"/"})
    outer: list[str] = []
    for point in points:
        if not any(point.startswith(f"{each}/") for each in [*outer, "/dev", "/proc"]) and point not in (
            "/dev",
            "/proc",
        ):
            outer.append(point)
    return outer


def _make_root(sandbox: Sandbox) -> str:
    """Mount the new root, without the volumes; its path."""
    machine = _submounts()
    _mount("tmpfs", sandbox.scratch, "tmpfs", 0, "mode=755")
    upper, work, root = (f"{sandbox.scratch}/{name}" for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        Path(folder).mkdir()
    _mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    for point in machine:
        _bind(point, root + point)
    _mount("proc", f"{root}/proc", "proc")
    _make_devices(f"{root}/dev")
    return root


def _mount_volumes(sandbox: Sandbox) -> None:
    """Mount the volumes, from inside the new root: a link in a path, such as /var/run, must not lead to the machine's files."""
    for source, target, read_only in sandbox.mounts:
        place = Path(target)
        if not place.exists():
            if Path(_OLD_ROOT + source).is_dir():
                place.mkdir(parents=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        _bind(_OLD_ROOT + source, target, read_only)


def _make_devices(folder: str) -> None:
    accelerators = [path.name for path in Path("/dev").glob("nvidia*") if path.is_char_device()]
    _mount("tmpfs", folder, "tmpfs", 0, "mode=755")
    for name in [*_DEVICES, *accelerators]:
        if Path(f"/dev/{name}").exists():
            Path(f"{folder}/{name}").touch()
            _bind(f"/dev/{name}", f"{folder}/{name}")
    for name, target in _LINKS.items():
        Path(f"{folder}/{name}").symlink_to(target)
    Path(f"{folder}/pts").mkdir()
    _mount("devpts", f"{folder}/pts", "devpts", 0, "newinstance,ptmxmode=0666")
    Path(f"{folder}/ptmx").symlink_to("pts/ptmx")
    Path(f"{folder}/shm").mkdir()
    _mount("tmpfs", f"{folder}/shm", "tmpfs", 0, "mode=1777")


def _become(sandbox: Sandbox) -> None:
    """Enter the new root and become the command."""
    _end_with(0)
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    os.chdir(_make_root(sandbox))
    Path(f".{_OLD_ROOT}").mkdir()
    _must(_libc.pivot_root(b".", f".{_OLD_ROOT}".encode()), "cannot change the root")
    _mount_volumes(sandbox)
    _must(_libc.umount2(_OLD_ROOT.encode(), MNT_DETACH), "cannot leave the old root")
    Path(_OLD_ROOT).rmdir()
    if sandbox.read_only_root:
        _mount("none", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    name = sandbox.hostname.encode()
    _must(_libc.sethostname(name, len(name)), "cannot set the host name")
    os.chdir(sandbox.directory)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.execvpe(sandbox.command[0], sandbox.command, sandbox.environment)


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent not in (0, os.getppid()):
        os._exit(CANNOT_START)


def main(path: str, parent: int) -> int:
    """Run the sandbox; the command's exit code, 128 + n if signal n ended it."""
    _end_with(parent)
    sandbox = Sandbox.read(Path(path))
    _must(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID), "cannot enter new namespaces (are you root?)")
    # Held back until the child is there to get it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        try:
            _become(sandbox)
        except OSError as error:
            os.write(2, f"the container cannot start: {error}\n".encode())
        finally:
            os._exit(CANNOT_START)

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

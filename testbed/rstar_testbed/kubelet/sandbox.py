"""``python sandbox.py FILE PARENT``: run one command in a container; end when the command or process PARENT ends.

A program of its own that imports the standard library only. FILE is a :class:`Sandbox` as JSON. The command gets its own
mounts, host name and process numbers: the machine's files under a writable layer that is discarded at the end, its
volumes at their real paths, a /dev of its own. It is process 1, as in a container: signals that it does not handle do not
end it, and its children are killed when it ends. SIGTERM is passed on to it.

Covered: files, mounts, host name, processes. Not covered: the network (the machine's own), users (it runs as root),
limits of CPU and memory. This is no security boundary.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
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
"""Exit code where the container or its command could not be started, as with container engines."""

_OLD_ROOT: Final = "/.machine"
_REPOSITORY: Final = Path(__file__).absolute().parents[3]
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
    """The command and its container.

    ``mounts`` are (source, target, read only); ``scratch`` is an existing empty folder. ``programs`` are folders that stay
    visible, read only, where a mount would hide them.
    """

    command: list[str]
    environment: dict[str, str]
    directory: str
    hostname: str
    scratch: str
    mounts: list[tuple[str, str, bool]]
    programs: list[str]
    read_only_root: bool

    def write(self, path: Path) -> None:
        """Write the file for :func:`main`."""
        path.write_text(dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Sandbox:
        """Read a file that :meth:`write` wrote."""
        return cls(**loads(path.read_text()))


def program_folders(also: Iterable[Path] = ()) -> list[str]:
    """Return the folders that this Python environment's programs need, by both names where a name is a link."""
    folders = [Path(sys.base_prefix), Path(sys.prefix), _REPOSITORY, *also]
    return sorted(
        {str(name) for folder in folders if folder.is_dir() for name in (folder.absolute(), folder.resolve())}
    )


def _check(result: int, action: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    _check(done, f"cannot mount {source} on {target}")


def _bind(source: str, target: str) -> None:
    _mount(source, target, "", MS_BIND | MS_REC)


def _make_read_only(target: str) -> None:
    _mount("none", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _submounts() -> list[str]:
    """Return where other file systems of the machine are mounted, outermost only; /dev and /proc are made anew."""
    points = sorted({line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()} - {"/"})
    outer: list[str] = []
    for point in points:
        if not any(point.startswith(f"{each}/") for each in [*outer, "/dev", "/proc"]) and point not in (
            "/dev",
            "/proc",
        ):
            outer.append(point)
    return outer


def _make_root(scratch: str) -> str:
    """Mount the new root, without the volumes, and return its path."""
    machine = _submounts()
    _mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
    upper, work, root = (f"{scratch}/{name}" for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        Path(folder).mkdir()
    _mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    for point in machine:
        _bind(point, root + point)
    _mount("proc", f"{root}/proc", "proc")
    _make_devices(f"{root}/dev")
    return root


def _mount_volumes(mounts: list[tuple[str, str, bool]], programs: dict[str, str]) -> None:
    """Mount the volumes, from inside the new root: a link in a path, such as /var/run, must not lead to the machine's files."""
    for source, target, read_only in mounts:
        place = Path(target)
        if not place.exists():
            if Path(_OLD_ROOT + source).is_dir():
                place.mkdir(parents=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        _bind(_OLD_ROOT + source, target)
        for folder, real_folder in programs.items():
            if place.resolve() in Path(folder).parents:
                _uncover(folder, _OLD_ROOT + real_folder)
        if read_only:
            _make_read_only(target)


def _uncover(folder: str, source: str) -> None:
    """Mount ``source`` where a volume hides it, unless an outer folder that was mounted again contains it."""
    place = Path(folder)
    if not place.exists() or not place.samefile(source):
        place.mkdir(parents=True, exist_ok=True)
        _bind(source, folder)
        _make_read_only(folder)


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


def _enter(sandbox: Sandbox) -> None:
    """Enter the new root and execute the command in this process."""
    _die_with_parent()
    os.umask(0o022)
    # Names that are links lead elsewhere, or nowhere, in the new root.
    mounts = [(os.path.realpath(source), target, read_only) for source, target, read_only in sandbox.mounts]
    programs = {folder: os.path.realpath(folder) for folder in sandbox.programs}
    # Unshared from the machine before the first mount: no clean-up outside ever walks into what is mounted here.
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    os.chdir(_make_root(sandbox.scratch))
    Path(f".{_OLD_ROOT}").mkdir()
    _check(_libc.pivot_root(b".", f".{_OLD_ROOT}".encode()), "cannot change the root")
    _mount_volumes(mounts, programs)
    _check(_libc.umount2(_OLD_ROOT.encode(), MNT_DETACH), "cannot leave the old root")
    Path(_OLD_ROOT).rmdir()
    if sandbox.read_only_root:
        _make_read_only("/")
    name = sandbox.hostname.encode()
    _check(_libc.sethostname(name, len(name)), "cannot set the host name")
    os.chdir(sandbox.directory)
    _reset_signals()
    os.execvpe(sandbox.command[0], sandbox.command, sandbox.environment)


def _reset_signals() -> None:
    """Give the command default signals, as in a container: Python ignores SIGPIPE, nohup SIGHUP, a shell's & SIGINT."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _die_with_parent(parent: int = 0) -> None:
    """Have the kernel kill this process when its parent ends; exit if process ``parent`` has ended already."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent not in (0, os.getppid()):
        os._exit(CANNOT_START)


def main(path: str, parent: int) -> int:
    """Run the sandbox; return the command's exit code, 128 + n if signal n ended it."""
    _die_with_parent(parent)
    sandbox = Sandbox.read(Path(path))
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID), "cannot enter new namespaces (are you root?)")
    # Blocked until the child exists and the handler is installed.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        try:
            _enter(sandbox)
        except Exception as error:
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

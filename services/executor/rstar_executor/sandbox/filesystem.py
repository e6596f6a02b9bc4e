"""The layer *files*: programs see a file system with Python and its libraries, read-only, and one small directory.

Covered: the contents and names of all other files; full disks (the directory is a file system in memory with a limit on
bytes and on files); devices, sockets, /sys and, for programs, /proc.
Not covered: reading the interpreter's own folders. Where the kernel refuses mounts, only Landlock keeps programs from
reading and writing, and the directory is an ordinary one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from rstar_executor.sandbox import kernel

SCRATCH_BYTES: Final = 64 << 20
SCRATCH_FILES: Final = 4096

_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _MOVE, _RECURSIVE, _PRIVATE = 4096, 8192, 16_384, 1 << 18
_DETACH = 2
_HARDENED = _NO_SETUID | _NO_DEVICES
_DEVICES: Final = ("null", "zero", "urandom")


def enter(base: str, readable: Sequence[str], scratch: str) -> int:
    """Make ``base``, an empty directory, the root: ``readable`` paths read-only at their own names, ``scratch`` writable.

    Call it in a new mount namespace and a new process namespace. Returns a descriptor of a /proc that no path leads to
    any more. Raises ``OSError``.
    """
    kernel.mount("none", "/", None, _RECURSIVE | _PRIVATE)
    kernel.mount("rstar", base, "tmpfs", _HARDENED, "mode=0755,size=1m")
    for path in readable:
        _bind(path, base + path)
    os.mkdir(f"{base}/dev", 0o755)
    for device in _DEVICES:
        open(f"{base}/dev/{device}", "x").close()
        kernel.mount(f"/dev/{device}", f"{base}/dev/{device}", None, _BIND)
    os.makedirs(base + scratch, 0o755, exist_ok=True)
    options = f"mode=0700,size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES}"
    kernel.mount("scratch", base + scratch, "tmpfs", _HARDENED | _NO_EXEC, options)
    proc = _proc(base)
    kernel.mount("none", base, None, _REMOUNT | _READ_ONLY | _HARDENED, "mode=0755,size=1m")
    os.chdir(base)
    kernel.mount(base, "/", None, _MOVE)
    os.chroot(".")
    os.chdir("/")
    return proc


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        open(target, "x").close()
    kernel.mount(source, target, None, _BIND | _RECURSIVE)
    # The flags of the mount below must be kept: the kernel refuses to clear them here.
    inherited = os.statvfs(source).f_flag & (_NO_EXEC | 1024 | 2048 | 4096)
    flags = (inherited & _NO_EXEC) | (inherited & 1024) | (inherited & 2048) | (1 << 21 if inherited & 4096 else 0)
    kernel.mount("none", target, None, _REMOUNT | _BIND | _READ_ONLY | _HARDENED | flags)


def _proc(base: str) -> int:
    path = f"{base}/proc"
    os.mkdir(path, 0o755)
    kernel.mount("proc", path, "proc", _HARDENED | _NO_EXEC)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    kernel.unmount(path, _DETACH)
    return descriptor

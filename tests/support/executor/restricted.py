"""Run a command as an ordinary user, or as in a container: ``python -m tests.support.executor.restricted SETTING COMMAND...``.

    ordinary     a user that owns nothing
    container    also without capabilities, with no_new_privs, and refused the system calls that container engines'
                 default seccomp profiles refuse, and personality
    no-landlock  a container whose profile also refuses Landlock, as those of older engines do

The first two need root unless the user is ordinary already. Where the interpreter lies in a folder that other users cannot
enter, such as root's home, the command sees that folder open, with only the needed files in it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.paths import ROOT

SETTINGS: Final = ("ordinary", "container", "no-landlock")
NOBODY: Final = 65_534

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS = 0x0002_0000
_NEW: Final = (_NEW_MOUNTS, *(1 << bit for bit in range(25, 31)))
"""Every flag of clone that asks for a namespace."""
_BIND, _RECURSIVE, _PRIVATE = 4096, 16_384, 1 << 18
_NO_NEW_PRIVS, _DROP_BOUND = 38, 24
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000
_NOT_EQUAL, _EQUAL, _MASKED = 1, 4, 7

_REFUSED: Final = (
    *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig"),
    *("fsmount", "fspick", "mount_setattr", "chroot", "keyctl", "add_key", "request_key", "ptrace", "kcmp", "bpf"),
    *("process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "init_module", "finit_module", "delete_module"),
    *("kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "syslog", "vhangup"),
    *("sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "stime", "iopl", "ioperm"),
    *("name_to_handle_at", "open_by_handle_at", "fanotify_init", "lookup_dcookie", "nfsservctl", "uselib", "ustat"),
    *("sysfs", "_sysctl", "vm86", "vm86old", "get_mempolicy", "set_mempolicy", "mbind", "move_pages", "migrate_pages"),
)
_ASKING = 0xFFFF_FFFF


def obstacle(setting: str) -> str:
    """Return the reason why ``setting`` is not possible here; empty when it is."""
    if os.geteuid() != 0:
        return "needs root to become another user" if setting == "ordinary" else ""
    if _closed(_needed()) and _LIBC.unshare(0) != 0:
        return "other users cannot enter the interpreter's folder, and mounts are refused"
    return ""


def enter(setting: str) -> None:
    """Restrict this process for good. Raises ``OSError``."""
    if os.geteuid() == 0:
        _open_folders()
        if setting != "ordinary":
            for capability in range(64):
                _LIBC.prctl(_DROP_BOUND, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if setting != "ordinary":
        _checked(_LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _filter(("landlock_create_ruleset", "landlock_restrict_self") if setting == "no-landlock" else ())


def _needed() -> list[str]:
    """Return the folders that the command reads, none inside another."""
    paths = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOT)}
    return sorted(str(path) for path in paths if not paths.intersection(path.parents))


def _closed(paths: list[str]) -> dict[str, list[str]]:
    """Return the folders above ``paths`` that other users cannot enter, with those paths."""
    closed: dict[str, list[str]] = {}
    for path in paths:
        for folder in reversed(Path(path).parents):
            if not folder.stat().st_mode & 0o001:
                closed.setdefault(str(folder), []).append(path)
                break
    return closed


def _open_folders() -> None:
    closed = _closed(_needed())
    if not closed:
        return
    _checked(_LIBC.unshare(_NEW_MOUNTS))
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    # No TemporaryDirectory: where a mount fails, its clean-up would empty the real folders that are mounted inside.
    aside = Path(tempfile.mkdtemp())
    for folder, paths in closed.items():
        kept = {path: aside / str(number) for number, path in enumerate(paths)}
        for path, place in kept.items():
            place.mkdir()
            _mount(path, str(place), None, _BIND | _RECURSIVE)
        _mount("none", folder, "tmpfs", 0)
        Path(folder).chmod(0o755)
        for path, place in kept.items():
            Path(path).mkdir(parents=True)
            _mount(str(place), path, None, _BIND | _RECURSIVE)
            _checked(_LIBC.umount2(bytes(place), 2))
            place.rmdir()
    aside.rmdir()


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = kind.encode() if kind else None
    _checked(_LIBC.mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), None))


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def _filter(also_refused: tuple[str, ...]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))

    def refuse(name: str, error: int, *comparisons: tuple[int, int, int, int]) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # not of this machine
            return
        array = (_Comparison * max(1, len(comparisons)))(*(_Comparison(*values) for values in comparisons))
        action = ctypes.c_uint32(_REFUSE | error)
        if library.seccomp_rule_add_array(context, action, number, len(comparisons), array) != 0:
            raise OSError(errno.EINVAL, f"libseccomp refuses {name}")

    for name in _REFUSED:
        refuse(name, errno.EPERM)
    for name in also_refused:
        refuse(name, errno.EPERM)
    for flag in _NEW:
        refuse("clone", errno.EPERM, (0, _MASKED, flag, flag))
    refuse("clone3", errno.ENOSYS)
    refuse("socket", errno.EPERM, (0, _EQUAL, 40, 0))  # AF_VSOCK
    refuse("personality", errno.EPERM, (0, _NOT_EQUAL, _ASKING, 0))
    if library.seccomp_load(context) != 0:
        raise OSError(errno.EPERM, "the kernel refuses the seccomp filter")


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main() -> None:
    """Restrict this process and become the command."""
    setting, *command = sys.argv[1:]
    enter(setting)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

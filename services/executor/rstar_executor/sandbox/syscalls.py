"""The layer *seccomp*: the list of system calls that a program needs; the kernel refuses all others (EPERM).

Covered: sockets of every family, executing files, debugging and reading other processes, new namespaces and mounts,
anonymous files in memory, System V IPC, keyrings, io_uring, bpf, performance counters, userfaultfd, owners and, where
files are shared with others, modes of files, other processes' limits and priorities. System calls of 32-bit and x32
programs end the program.
Not covered: the effects of allowed calls (files and signals: Landlock; amounts: limits).

The list holds names; libseccomp translates them into numbers and a filter for the architecture. One call that no
program needs, ``sched_rr_get_interval``, is handed to the warden instead of the kernel: by it an interpreter says that it
waits for the warden's reply (``notify``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from typing import Final

from rstar_executor.sandbox.kernel import NAMESPACES

LIBRARY: Final = "libseccomp.so.2"

_ALLOW = 0x7FFF_0000
_NOTIFY = 0x7FC0_0000
_KILL_PROCESS = 0x8000_0000
_REFUSE = 0x0005_0000
_BAD_ARCHITECTURE, _OPTIMIZE = 2, 8
_EQUAL, _MASKED = 4, 7

NOTIFYING_CALL: Final = "sched_rr_get_interval"

_ALLOWED: Final = [
    "read",
    "readv",
    "pread64",
    "preadv",
    "preadv2",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "close",
    "close_range",
    "lseek",
    "_llseek",
    "open",
    "openat",
    "creat",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "access",
    "faccessat",
    "faccessat2",
    "getdents",
    "getdents64",
    "getcwd",
    "chdir",
    "fchdir",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "readlink",
    "readlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "fadvise64",
    "copy_file_range",
    "sendfile",
    "umask",
    "dup",
    "dup2",
    "dup3",
    "pipe",
    "pipe2",
    "fcntl",
    "flock",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd",
    "signalfd4",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    "mincore",
    "msync",
    "membarrier",
    "rseq",
    "get_mempolicy",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "fork",
    "vfork",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "getpid",
    "getppid",
    "gettid",
    "getpgid",
    "getpgrp",
    "setpgid",
    "getsid",
    "setsid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "getrlimit",
    "setrlimit",
    "getrusage",
    "times",
    "getpriority",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "uname",
    "sysinfo",
    "getcpu",
    "set_tid_address",
    "set_robust_list",
    "futex",
    "futex_waitv",
    "arch_prctl",
    "getrandom",
    "restart_syscall",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "alarm",
    "setitimer",
    "getitimer",
    "pause",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigsuspend",
    "sigaltstack",
    "sendmsg",
    "recvmsg",
    "sendto",
    "recvfrom",
    "getsockname",
    "getpeername",
    "getsockopt",
    "shutdown",
    "landlock_restrict_self",
]
_MODES: Final = ("chmod", "fchmod", "fchmodat", "fchmodat2", "utime", "utimes", "utimensat", "futimesat")
_SIGNALLING: Final = ("kill", "tgkill", "tkill")
_DEVICE_REQUESTS: Final = (0x5401, 0x5413, 0x5421, 0x541B, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONBIO, FIONREAD, FIONCLEX, FIOCLEX: needed to open a file and to ask whether it is a terminal."""
_PROCESS_OPTIONS: Final = (3, 15, 16, 21, 23, 39, 0x53564D41)
"""Read-only options of prctl, and the names of threads and memory."""
_PDEATHSIG = 1
_AF_UNIX = 1
_PERSONALITY_QUERY = 0xFFFF_FFFF


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Filter:
    """A filter under construction. Raises ``OSError`` when libseccomp is missing or refuses."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY, use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_REFUSE | errno.EPERM)))
        self._attribute(_BAD_ARCHITECTURE, _KILL_PROCESS)
        with contextlib.suppress(OSError):  # libseccomp before 2.5: the same filter, slower
            self._attribute(_OPTIMIZE, 2)

    def add(self, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
        """Answer the call ``name`` with ``action`` where all ``comparisons`` (argument, operator, values) hold."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # unknown to this machine or this libseccomp: it stays refused
            return
        array = (_Comparison * max(1, len(comparisons)))(*(_Comparison(*comparison) for comparison in comparisons))
        result = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        _checked(result, name)

    def load(self) -> int:
        """Install the filter in this process for good; return the descriptor on which the warden receives notifications."""
        _checked(self._library.seccomp_load(self._context), "load")
        return _checked(self._library.seccomp_notify_fd(self._context), "listener")

    def _attribute(self, attribute: int, value: int) -> None:
        _checked(self._library.seccomp_attr_set(self._context, attribute, ctypes.c_uint32(value)), "attribute")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(-result, f"libseccomp refuses {what}: {os.strerror(-result)}")
    return int(result)


def restrict(signals_kept_in: bool, files_apart: bool) -> int:
    """Install the filter in this process and its descendants; return the listener.

    ``signals_kept_in``: another layer confines a program's signals; otherwise it can send none. ``files_apart``: every
    file whose mode it could change is its own; otherwise it can change no mode, owner or time. Raises ``OSError``.
    """
    allowed = Filter()
    for name in _ALLOWED:
        allowed.add(_ALLOW, name)
    # Processes and threads, but no namespaces. clone3 hides its flags from a filter; ENOSYS makes its callers use clone.
    allowed.add(_ALLOW, "clone", (0, _MASKED, NAMESPACES & ~0xFF, 0))
    allowed.add(_REFUSE | errno.ENOSYS, "clone3")
    allowed.add(_ALLOW, "prlimit64", (0, _EQUAL, 0, 0))
    allowed.add(_ALLOW, "socketpair", (0, _EQUAL, _AF_UNIX, 0))
    allowed.add(_ALLOW, "personality", (0, _EQUAL, _PERSONALITY_QUERY, 0))
    for request in _DEVICE_REQUESTS:
        allowed.add(_ALLOW, "ioctl", (1, _EQUAL, request, 0))
    for option in _PROCESS_OPTIONS:
        allowed.add(_ALLOW, "prctl", (0, _EQUAL, option, 0))
    allowed.add(_ALLOW, "prctl", (0, _EQUAL, _PDEATHSIG, 0), (1, _EQUAL, signal.SIGKILL, 0))
    if signals_kept_in:
        for name in _SIGNALLING:
            allowed.add(_ALLOW, name)
    if files_apart:
        for name in _MODES:
            allowed.add(_ALLOW, name)
    allowed.add(_NOTIFY, NOTIFYING_CALL)
    return allowed.load()

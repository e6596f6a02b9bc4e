"""The layer *namespaces*: programs see no process, network interface, IPC object or host name but their own.

Covered: the process tree (the warden is the init of its own process namespace: it cannot be signalled from inside, and
when it ends the kernel ends everything in it), networks (an interface-less one), System V IPC, POSIX queues, host name.
Not covered: system calls themselves (seccomp) and files (the file layers). Where the kernel refuses namespaces, as in
most containers, only the other layers protect.
"""

from __future__ import annotations

import os
from typing import Final

from rstar_executor.sandbox import kernel

_OWN = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_IPC | kernel.NEW_NETWORK | kernel.NEW_HOSTNAME
_CHILD_REFUSED: Final = 77


def enter() -> str:
    """Give this process namespaces of its own; its next child is the init of a process namespace.

    Returns an empty text, or the reason of a refusal; after a refusal nothing has changed.
    """
    if reason := _refusal():
        return reason
    _unshare()
    return ""


def own_users(proc: int) -> bool:
    """Give this process a user namespace that maps its user alone, so that the kernel counts its processes separately.

    ``proc`` is a descriptor of /proc. Returns False where that is refused.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        kernel.unshare(kernel.NEW_USER)
        _map_own(user, group, proc)
    except OSError:
        return False
    return True


def _unshare() -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(_OWN)
    else:
        kernel.unshare(kernel.NEW_USER | _OWN)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            _map_own(user, group, proc)
        finally:
            os.close(proc)


def _map_own(user: int, group: int, proc: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _refusal() -> str:
    """Try it in a child, because a half-entered namespace cannot be left. It also mounts: some kernels refuse only that."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _unshare()
            inner = os.fork()
            if inner:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
            kernel.mount("none", "/", None, _PRIVATE)
            kernel.mount("none", "/tmp", "tmpfs", 0)
            os.mkdir("/tmp/proc")
            kernel.mount("proc", "/tmp/proc", "proc", 0)
        except BaseException as error:
            os.write(writing, str(error).encode()[:500])
            os._exit(_CHILD_REFUSED)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        reason = stream.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    return "" if status == 0 else reason or "refused"


_PRIVATE = 0x4_4000  # MS_REC | MS_PRIVATE

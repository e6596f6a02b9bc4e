"""Messages from interpreters to the warden, carried by seccomp's user notification.

An interpreter makes one special system call, which the kernel hands to the warden and blocks until the warden replies:
that is how interpreters wait. Before it replies, the warden can install a descriptor in the caller's table. The kernel
says which process makes the call; the value that the call carries may be forged.
"""

from __future__ import annotations

import errno
import fcntl
import select
import struct
from typing import Final, NamedTuple

_RECEIVE: Final = 0xC050_2100
_REPLY: Final = 0xC018_2101
_INSTALL: Final = 0x4018_2103
_NOTIFICATION_BYTES = 80
_HEAD = struct.Struct("=QII")
_VALUE_OFFSET = 32  # after id, pid, flags, number, architecture and instruction pointer: the first argument
_REPLY_FORMAT = struct.Struct("=Qqii")
_INSTALL_FORMAT = struct.Struct("=QIIII")
_AT_A_NUMBER = 1


class Notification(NamedTuple):
    """One blocked call: its id, the process that makes it, and the value that it carries."""

    id: int
    pid: int
    value: int


def wait(listener: int, seconds: float) -> Notification | None:
    """Wait for the next notification; None when none arrives in time or when every process of the listener is dead."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    events = poller.poll(seconds * 1000)
    return receive(listener) if events and events[0][1] & select.POLLIN else None


def receive(listener: int) -> Notification | None:
    """Take the next notification; None when its process has died. Blocks unless ``poll`` has reported POLLIN."""
    buffer = bytearray(_NOTIFICATION_BYTES)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    id, pid, _ = _HEAD.unpack_from(buffer)
    (value,) = struct.unpack_from("=i", buffer, _VALUE_OFFSET)
    return Notification(id, pid, value)


def reply(listener: int, id: int, error: int = 0) -> None:
    """Unblock the call with this id; with ``error``, it fails. Raises ``OSError`` when its process is gone."""
    fcntl.ioctl(listener, _REPLY, _REPLY_FORMAT.pack(id, 0, -error, 0))


def install(listener: int, id: int, descriptor: int, number: int) -> None:
    """Give the blocked process a copy of ``descriptor`` as ``number``. Raises ``OSError`` when it is gone."""
    fcntl.ioctl(listener, _INSTALL, _INSTALL_FORMAT.pack(id, _AT_A_NUMBER, descriptor, number, 0))


def refuse(listener: int, notification: Notification) -> None:
    """Let a call fail that the warden did not expect."""
    try:
        reply(listener, notification.id, errno.EPERM)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
            raise

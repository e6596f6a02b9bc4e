"""Talking with interpreters through the kernel: seccomp hands their one special call to the warden, which answers.

The kernel says who speaks, and a speaker does nothing until it is answered: that is how interpreters wait. Before the
answer, the warden may put a descriptor into the speaker's table. It refuses to believe what is said.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from typing import Final, NamedTuple

_RECEIVE: Final = 0xC050_2100
_ANSWER: Final = 0xC018_2101
_INSTALL: Final = 0x4018_2103
_SIZE = 80
_HEAD = struct.Struct("=QII")
_SAID = 32  # id, pid, flags, number, architecture, instruction pointer: the first argument follows
_ANSWERED = struct.Struct("=Qqii")
_INSTALLED = struct.Struct("=QIIII")
_AT_A_NUMBER = 1


class Words(NamedTuple):
    """One call that waits for an answer: who makes it, and the number that it says."""

    call: int
    speaker: int
    said: int


def receive(listener: int) -> Words | None:
    """Take the next call; None when its speaker has died meanwhile."""
    buffer = bytearray(_SIZE)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    call, speaker, _ = _HEAD.unpack_from(buffer)
    (said,) = struct.unpack_from("=i", buffer, _SAID)
    return Words(call, speaker, said)


def answer(listener: int, call: int, error: int = 0) -> None:
    """Let the speaker go on; with ``error``, its call fails. Raises ``OSError`` when it is gone."""
    fcntl.ioctl(listener, _ANSWER, _ANSWERED.pack(call, 0, -error, 0))


def install(listener: int, call: int, descriptor: int, number: int) -> None:
    """Give the speaker a copy of ``descriptor`` under ``number``. Raises ``OSError`` when it is gone."""
    fcntl.ioctl(listener, _INSTALL, _INSTALLED.pack(call, _AT_A_NUMBER, descriptor, number, 0))


def refuse(listener: int, words: Words) -> None:
    """Answer a call that nobody was to make."""
    try:
        answer(listener, words.call, errno.EPERM)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
            raise

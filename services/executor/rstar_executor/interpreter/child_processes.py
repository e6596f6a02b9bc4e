"""What multiprocessing and subprocess need of the system, for programs that can fork and do nothing else.

Every lock, queue and pool of multiprocessing, its pools of threads and the process executor begin with ``SemLock``, a file
in /dev/shm; programs have none. Here it is an eventfd, which forked processes inherit. So what is forked works. What needs
a fresh interpreter (spawn) or another program fails at once, with a sentence. What needs sockets or shared memory (managers,
``Value``) fails. Standard library only.
"""

from __future__ import annotations

import _multiprocessing  # type: ignore[import-not-found]
import _posixsubprocess
import errno
import os
import select
import threading
import time
from typing import Final, NoReturn

_RECURSIVE: Final = 0


class SemLock:
    """``_multiprocessing.SemLock``, as ``multiprocessing.synchronize`` uses it."""

    SEM_VALUE_MAX: Final = _multiprocessing.SemLock.SEM_VALUE_MAX

    def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:
        if not 0 <= value <= maxvalue:
            raise ValueError("invalid value")
        self.kind, self.maxvalue, self.name = kind, maxvalue, None
        self.handle = os.eventfd(value, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._close = os.close
        self._held, self._owner = 0, 0

    def __del__(self) -> None:
        self._close(self.handle)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take one, waiting at most ``timeout`` seconds; say whether that succeeded."""
        if self.kind == _RECURSIVE and self._is_mine():
            self._held += 1
            return True
        until = None if timeout is None else time.monotonic() + max(0.0, timeout)
        while True:
            try:
                os.eventfd_read(self.handle)
            except BlockingIOError:
                left = None if until is None else until - time.monotonic()
                if not block or (left is not None and left <= 0):
                    return False
                _wait(self.handle, left)
            else:
                self._held += 1
                self._owner = threading.get_ident()
                return True

    def release(self) -> None:
        """Give one back. Raises ``AssertionError`` and ``ValueError`` as the original does."""
        if self.kind == _RECURSIVE:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._held > 1:
                self._held -= 1
                return
        elif self.maxvalue == 1 and not self._is_zero():
            raise ValueError("semaphore or lock released too many times")
        self._held -= 1
        os.eventfd_write(self.handle, 1)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _count(self) -> int:
        return self._held

    def _is_mine(self) -> bool:
        return self._held > 0 and self._owner == threading.get_ident()

    def _is_zero(self) -> bool:
        return not _wait(self.handle, 0)

    def _get_value(self) -> int:
        raise NotImplementedError("the value of a semaphore cannot be read here")

    def _after_fork(self) -> None:
        self._held = 0


def _wait(descriptor: int, seconds: float | None) -> bool:
    """Wait until ``descriptor`` can be read; say whether it can."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(None if seconds is None else seconds * 1000 + 1 if seconds else 0))


def _refuse_program(*_: object) -> NoReturn:
    raise PermissionError(
        errno.EPERM, "a program cannot start another one; of multiprocessing, the method 'fork' works"
    )


def install() -> None:
    """Have multiprocessing and subprocess, when a program imports them, use what is here."""
    _multiprocessing.SemLock = SemLock
    _posixsubprocess.fork_exec = _refuse_program

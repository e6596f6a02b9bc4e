"""The warden's view of its processes: which are its children, which are strays, and how to end them for certain.

Every interpreter and every program is a child of the warden, and every process that a program leaves behind becomes one
(the warden is their init or subreaper). A child that the warden does not know is a stray and is killed.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from typing import Final, NamedTuple

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SWEEP_SECONDS: Final = 10.0
_MOST_ENDING: Final = 8
_FIXED_BYTES: Final = 400 << 10  # page tables and kernel stack of a small process


class Usage(NamedTuple):
    """Threads, children and open descriptors of a process, and an estimate of its private bytes."""

    threads: int
    children: int
    descriptors: int
    size: int


class Processes:
    """``proc``: a descriptor of /proc; ``contained``: this process is the init of a process namespace."""

    def __init__(self, proc: int, contained: bool) -> None:
        self._proc, self._contained = proc, contained
        self._children = f"{os.getpid()}/task/{os.getpid()}/children"
        self._ending: set[int] = set()

    def read(self, path: str) -> bytes:
        """Read a file below /proc."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            parts = []
            while part := os.read(descriptor, 65_536):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def address_space(self, pid: int) -> int:
        """Return the bytes of address space of a process."""
        return int(self.read(f"{pid}/statm").split()[0]) * PAGE

    def usage(self, pid: int) -> Usage:
        """Return the usage of a process. Raises ``OSError`` when it is gone."""
        fields = self.read(f"{pid}/stat").rpartition(b")")[2].split()
        children = self.read(f"{pid}/task/{pid}/children").split()
        folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            descriptors = len(os.listdir(folder))
        finally:
            os.close(folder)
        return Usage(int(fields[17]), len(children), descriptors, int(fields[7]) * PAGE + _FIXED_BYTES)

    def killed_for_memory(self) -> bytes:
        """Return the kernel's count of processes killed for memory; a change tells such a kill from another."""
        lines = self.read("vmstat").splitlines()
        return next((line for line in lines if line.startswith(b"oom_kill ")), b"")

    def is_child(self, pid: int) -> bool:
        """Say whether ``pid`` is a child of this process, living or not yet reaped."""
        if pid <= 0:
            return False
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            return False
        return True

    def is_alive(self, pid: int) -> bool:
        """Say whether ``pid`` is a living child of this process."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def end(self, pid: int) -> int:
        """Kill a child and its group; return its wait status."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            # Before the child is reaped: until then nobody else can have its group's number.
            os.killpg(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    def end_later(self, pid: int) -> None:
        """Kill a paused process without waiting; ``reap`` collects it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._ending.add(pid)

    def reap(self) -> None:
        """Reap the processes of ``end_later`` that have ended; wait for them when there are many."""
        for pid in list(self._ending):
            wait = len(self._ending) > _MOST_ENDING
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, 0 if wait else os.WNOHANG)[0] == 0:
                    continue
            self._ending.discard(pid)

    def strays(self, known: Collection[int]) -> list[int]:
        """Return the children that are neither known nor ending."""
        children = self.read(self._children).split()
        return [pid for pid in map(int, children) if pid not in known and pid not in self._ending]

    def sweep(self, known: Collection[int]) -> bool:
        """End every child that is not known; return False where only ``end_all`` can."""
        until = time.monotonic() + _SWEEP_SECONDS
        while self.strays(known):
            if time.monotonic() > until:
                return False
            # All descendants, not only children: a fork bomb must lose all its generations at once.
            for stray in self._all(known):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stray, signal.SIGKILL)
            self._reap()
        return True

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._ending.discard(pid)

    def end_all(self) -> None:
        """End every other process of the namespace at once; without a namespace, all that can be found."""
        if self._contained:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        while True:
            with contextlib.suppress(ProcessLookupError):
                for stray in self.strays(()):
                    os.kill(stray, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _all(self, known: Collection[int]) -> list[int]:
        """Return every process that is neither known nor ending: in the namespace, or, without one, below this process."""
        if self._contained:
            found = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        else:
            found = self._below(self.strays(known))
        own = os.getpid()
        return [pid for pid in found if pid != own and pid not in known and pid not in self._ending]

    def _below(self, pids: Collection[int]) -> list[int]:
        found, queue = list(pids), list(pids)
        while queue:
            pid = queue.pop()
            with contextlib.suppress(OSError):
                children = [int(child) for child in self.read(f"{pid}/task/{pid}/children").split()]
                found += children
                queue += children
        return found

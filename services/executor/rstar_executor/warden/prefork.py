"""Forks the process of the next program while the current one runs, so that no program waits for fork().

A paused interpreter that gets a reply forks and pauses again; its child prepares itself and pauses too. Their two
notifications arrive in any order, and between others. A parent's claim about its child's pid is checked: the kernel
must report a call from that pid. Standard library only: this runs inside the warden.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from rstar_executor.sandbox import notify
from rstar_executor.sandbox.notify import Notification
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.snapshots import Snapshot

_FORK_SECONDS = 20.0
_POLL_SECONDS = 0.1


class InterpreterLostError(Exception):
    """The interpreter to be forked or resumed is gone."""


class PreforkedProcess(NamedTuple):
    """A paused fork that has run nothing yet; a negative ``pid`` is the error number of a fork that failed."""

    pid: int
    notification: int


@dataclass
class _Fork:
    """A fork under way; ``child`` is known once the parent has paused again."""

    parent: Snapshot
    listener: int
    deadline: float = field(default_factory=lambda: time.monotonic() + _FORK_SECONDS)
    child: int | None = None


class Preforker:
    """The forks under way and the paused ones; ``known_pids`` returns the processes that cannot be a new child."""

    def __init__(self, processes: Processes, known_pids: Callable[[], Collection[int]]) -> None:
        self._processes, self._known_pids = processes, known_pids
        self._forks: dict[int, _Fork] = {}
        self._ready: dict[Snapshot, PreforkedProcess] = {}
        self._unmatched: dict[int, tuple[Notification, int]] = {}

    def start(self, parent: Snapshot, listener: int) -> None:
        """Have ``parent`` fork, unless it has already; do not wait. Raises ``InterpreterLostError``."""
        if parent in self._ready or parent.pid in self._forks:
            return
        try:
            notify.reply(listener, parent.notification)
        except OSError as error:
            raise InterpreterLostError from error
        self._forks[parent.pid] = _Fork(parent, listener)

    def take(self, parent: Snapshot, listener: int) -> PreforkedProcess:
        """Return a paused fork of ``parent``, made now or before. Raises ``InterpreterLostError``."""
        self.start(parent, listener)
        while (fork := self._forks.get(parent.pid)) is not None:
            self._receive(fork)
        if parent not in self._ready:
            raise InterpreterLostError
        return self._ready.pop(parent)

    def is_ready(self, parent: Snapshot) -> bool:
        """Say whether a fork of ``parent`` is paused already."""
        return parent in self._ready

    def wait_for_parents(self) -> None:
        """Wait until every forking parent has paused again; its child may not have paused yet."""
        while (fork := next((fork for fork in self._forks.values() if fork.child is None), None)) is not None:
            self._receive(fork)

    def discard(self, parent: Snapshot) -> None:
        """End the fork of ``parent``, if there is one. Call ``wait_for_parents`` first."""
        if (process := self._ready.pop(parent, None)) is not None and process.pid > 0:
            self._processes.end_later(process.pid)
        if (fork := self._forks.pop(parent.pid, None)) is not None and fork.child is not None:
            self._processes.end_later(fork.child)

    def pids(self) -> set[int]:
        """Return the forks that have paused or are about to."""
        preparing = {fork.child for fork in self._forks.values() if fork.child is not None}
        return preparing | {process.pid for process in self._ready.values()}

    def handle(self, notification: Notification, listener: int) -> bool:
        """Take a notification of a forking parent or of its child; return False when it can be neither."""
        fork = self._forks.get(notification.pid)
        if fork is not None and fork.child is None:
            fork.parent.notification = notification.id
            if notification.value < 0:
                self._ready[fork.parent] = PreforkedProcess(notification.value, 0)
                del self._forks[notification.pid]
            elif notification.value in self._known_pids() or not self._processes.is_child(notification.value):
                self._end_parent(fork)
            else:
                fork.child = notification.value
        elif self._forks:
            self._unmatched[notification.pid] = notification, listener
        else:
            return False
        self._match()
        return True

    def _receive(self, fork: _Fork) -> None:
        notification = notify.wait(fork.listener, _POLL_SECONDS)
        if notification is not None:
            if not self.handle(notification, fork.listener):
                notify.refuse(fork.listener, notification)
        elif time.monotonic() > fork.deadline or not self._is_alive(fork):
            self._end_parent(fork)
            self._match()

    def _match(self) -> None:
        """Match the notifications of children with the forks that they belong to."""
        for pid, fork in list(self._forks.items()):
            if fork.child in self._unmatched:
                notification, _ = self._unmatched.pop(fork.child)
                self._ready[fork.parent] = PreforkedProcess(notification.pid, notification.id)
                del self._forks[pid]
        if not self._forks:
            for notification, listener in self._unmatched.values():
                notify.refuse(listener, notification)
            self._unmatched.clear()

    def _is_alive(self, fork: _Fork) -> bool:
        return self._processes.is_alive(fork.parent.pid) and (
            fork.child is None or self._processes.is_alive(fork.child)
        )

    def _end_parent(self, fork: _Fork) -> None:
        """End a parent whose child does not pause in time, or is no new child."""
        self._processes.end_later(fork.parent.pid)
        del self._forks[fork.parent.pid]

"""Newborn interpreters: forks that wait for what they are to run, made while another program runs, so that none waits for them.

A parent is told to fork and goes back to wait; its child prepares itself and waits too. Both are heard in any order, and
between other words. Standard library only: this runs inside the warden. It refuses to take a parent's word for who its
child is: the child speaks for itself, and the kernel says who speaks.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from rstar_executor.sandbox import notify
from rstar_executor.sandbox.notify import Words
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.snapshots import Resting

_FORK_SECONDS = 20.0


class LostError(Exception):
    """The interpreter that was to be forked is gone."""


class Newborn(NamedTuple):
    """A fork that has run nothing yet: its process, or a negative error number where there is none; its waiting call."""

    pid: int
    call: int


@dataclass
class _Birth:
    parent: Resting
    listener: int
    until: float = field(default_factory=lambda: time.monotonic() + _FORK_SECONDS)
    child: int | None = None


class Births:
    """All births under way, and the newborns that wait; ``known`` returns the processes that no newborn can be."""

    def __init__(self, processes: Processes, known: Callable[[], Collection[int]]) -> None:
        self._processes, self._known = processes, known
        self._births: dict[int, _Birth] = {}
        self._newborns: dict[Resting, Newborn] = {}
        self._early: dict[int, tuple[Words, int]] = {}

    def ask(self, parent: Resting, listener: int) -> None:
        """Have ``parent`` fork, without waiting for it. Raises ``LostError`` when it is gone."""
        if parent in self._newborns or parent.pid in self._births:
            return
        try:
            notify.answer(listener, parent.call)
        except OSError as error:
            raise LostError from error
        self._births[parent.pid] = _Birth(parent, listener)

    def take(self, parent: Resting, listener: int) -> Newborn:
        """Return a fork of ``parent`` that waits for its order, new or made before; a negative process is an error number.

        Raises ``LostError`` when the parent is gone.
        """
        self.ask(parent, listener)
        while (birth := self._births.get(parent.pid)) is not None:
            self._listen(birth)
        if parent not in self._newborns:
            raise LostError
        return self._newborns.pop(parent)

    def waits(self, parent: Resting) -> bool:
        """Say whether a newborn of ``parent`` waits already."""
        return parent in self._newborns

    def settle(self) -> None:
        """Wait until every parent waits again; a newborn may still be on its way to do so."""
        while (birth := next((birth for birth in self._births.values() if birth.child is None), None)) is not None:
            self._listen(birth)

    def forget(self, parent: Resting) -> None:
        """End the newborn of ``parent``, if there is or will be one. Only when births are settled."""
        if (newborn := self._newborns.pop(parent, None)) is not None and newborn.pid > 0:
            self._processes.end_later(newborn.pid)
        if (birth := self._births.pop(parent.pid, None)) is not None and birth.child is not None:
            self._processes.end_later(birth.child)

    def pids(self) -> set[int]:
        """Return the newborns that wait or are on their way to do so."""
        coming = {birth.child for birth in self._births.values() if birth.child is not None}
        return coming | {newborn.pid for newborn in self._newborns.values()}

    def hear(self, words: Words, listener: int) -> bool:
        """Take the words of a parent or of a child; False when they cannot be about a birth."""
        birth = self._births.get(words.speaker)
        if birth is not None and birth.child is None:
            birth.parent.call = words.call
            if words.said < 0:
                self._newborns[birth.parent] = Newborn(words.said, 0)
                del self._births[words.speaker]
            elif words.said in self._known() or not self._processes.is_child(words.said):
                self._lose(birth)
            else:
                birth.child = words.said
        elif self._births:
            self._early[words.speaker] = words, listener
        else:
            return False
        self._match()
        return True

    def _listen(self, birth: _Birth) -> None:
        poller = select.poll()
        poller.register(birth.listener, select.POLLIN)
        if poller.poll(100):
            words = notify.receive(birth.listener)
            if words is not None and not self.hear(words, birth.listener):
                notify.refuse(birth.listener, words)
        elif time.monotonic() > birth.until or not self._lives(birth):
            self._lose(birth)
            self._match()

    def _match(self) -> None:
        for pid, birth in list(self._births.items()):
            if birth.child in self._early:
                words, _ = self._early.pop(birth.child)
                self._newborns[birth.parent] = Newborn(words.speaker, words.call)
                del self._births[pid]
        if not self._births:
            for words, listener in self._early.values():
                notify.refuse(listener, words)
            self._early.clear()

    def _lives(self, birth: _Birth) -> bool:
        return self._processes.lives(birth.parent.pid) and (birth.child is None or self._processes.lives(birth.child))

    def _lose(self, birth: _Birth) -> None:
        """End a parent whose child does not come."""
        self._processes.end_later(birth.parent.pid)
        del self._births[birth.parent.pid]

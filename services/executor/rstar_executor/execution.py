"""One program from fork to the last trace of it: the pipes it writes to, the deadline, its end.

Standard library only: this runs inside the warden. It refuses to decide where a program starts from (``warden``).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from rstar_executor import area as notes
from rstar_executor import conversation
from rstar_executor.area import Area, Command
from rstar_executor.frames import read_frame
from rstar_executor.judging import INTERNAL, OK, OUTPUT_LIMIT, TIMEOUT, Seen, judge
from rstar_executor.processes import Processes
from rstar_executor.roots import Root
from rstar_executor.snapshots import Resting

_CHUNK = 65_536
_FORK_SECONDS = 20.0
_STANDARD_DESCRIPTORS = 3


class InterruptedBatchError(Exception):
    """The other side ended the batch; ``gone`` when it closed the socket."""

    def __init__(self, gone: bool) -> None:
        self.gone = gone


class LostError(Exception):
    """The interpreter that was to be forked is gone."""


class Ended(NamedTuple):
    """What came of one program; ``resting`` is set where its interpreter waits to go on."""

    status: int
    reason: bytes
    stdout: bytes
    seconds: float
    state: int
    resting: Resting | None


class Executions:
    """Runs one program at a time.

    ``control`` is the socket on which the batch may be interrupted, ``known`` returns the processes that are no program.
    """

    def __init__(self, control: int, area: Area, processes: Processes, known: Callable[[], Collection[int]]) -> None:
        self._control, self._area, self._processes, self._known = control, area, processes, known
        self._killed_for_memory = processes.killed_for_memory()

    def run(self, start: Resting, root: Root, command: Command) -> Ended:
        """Run ``command`` in a fork of ``start``.

        Raises ``LostError`` when ``start`` is gone, ``InterruptedBatchError`` when the batch is to end.
        """
        began = time.monotonic()
        until = began + command.limits.seconds - start.seconds
        self._area.order(command)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            pid, early = self._fork(start, root.listener, out_end, err_end)
            if pid < 0:
                reason = f"cannot fork (error {-pid})".encode()
                return Ended(INTERNAL, reason, b"", 0.0, notes.UNPREPARED, None)
            watch = _Watch(pid, out, err, until, command.limits.output_bytes, start, early)
            return self._finish(watch, start, root, command, began)
        finally:
            for descriptor in (out, out_end, err, err_end):
                os.close(descriptor)
            self._area.wipe()

    def _fork(self, start: Resting, listener: int, out: int, err: int) -> tuple[int, list[conversation.Words]]:
        """Have ``start`` fork with these descriptors as its output; return the child and what was said meanwhile."""
        try:
            conversation.install(listener, start.call, out, 1)
            conversation.install(listener, start.call, err, 2)
            conversation.answer(listener, start.call)
        except OSError as error:
            raise LostError from error
        until = time.monotonic() + _FORK_SECONDS
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        early: list[conversation.Words] = []
        while time.monotonic() < until:
            if not poller.poll(100):
                if not self._processes.lives(start.pid):
                    break
                continue
            words = conversation.receive(listener)
            if words is None:
                continue
            if words.speaker == start.pid:
                start.call = words.call
                if words.said >= 0 and (words.said in self._known() or not self._processes.is_child(words.said)):
                    break
                return words.said, early
            early.append(words)
        raise LostError

    def _finish(self, watch: _Watch, start: Resting, root: Root, command: Command, began: float) -> Ended:
        try:
            call = watch.until_end(root.listener, self._control, self._area, command.rest)
        except BaseException:
            self._processes.end(watch.pid)
            raise
        seconds = time.monotonic() - began
        resting, wait_status = None, None
        if call is not None:
            watch.drain()
            resting = self._resting(watch, call, start, seconds)
        if resting is None:
            status = self._processes.end(watch.pid)
            wait_status = None if call is not None else status
            watch.drain()
        killed = self._memory_kill() if wait_status is not None and os.WIFSIGNALED(wait_status) else False
        seen = Seen(watch.verdict, wait_status, self._area.state, self._area.reason, killed)
        status, reason = judge(seen, command.limits)
        if status != OK and resting is not None:
            self._processes.end(watch.pid)
            resting = None
        stdout = b"".join((start.stdout, *watch.stdout))[: command.limits.output_bytes]
        if self._area.state == notes.SYNTAX:
            stdout = b""
        return Ended(status, reason, stdout, seconds, self._area.state, resting)

    def _resting(self, watch: _Watch, call: int, start: Resting, seconds: float) -> Resting | None:
        """Return the interpreter as one that rests, or None when it holds what a fork could not copy."""
        try:
            held = self._processes.held(watch.pid)
        except (OSError, IndexError, ValueError):
            return None
        if held.threads != 1 or held.children or held.descriptors != _STANDARD_DESCRIPTORS:
            return None
        stdout = b"".join((start.stdout, *watch.stdout))
        return Resting(watch.pid, call, stdout, watch.stderr_bytes, start.seconds + seconds, held.size)

    def _memory_kill(self) -> bool:
        count = self._processes.killed_for_memory()
        before, self._killed_for_memory = self._killed_for_memory, count
        return count != before


class _Watch:
    """A running program: what it printed, and when it is over."""

    def __init__(
        self,
        pid: int,
        out: int,
        err: int,
        until: float,
        output_bytes: int,
        start: Resting,
        early: list[conversation.Words],
    ) -> None:
        self.pid, self._out, self._err, self._until, self._most = pid, out, err, until, output_bytes
        self._early = early
        self.stdout: list[bytes] = []
        self._stdout_bytes, self.stderr_bytes = len(start.stdout), start.stderr_bytes
        self.verdict = OK
        os.set_blocking(out, False)
        os.set_blocking(err, False)

    def until_end(self, listener: int, control: int, area: Area, rest: bool) -> int | None:
        """Wait until the program has ended, rests or has to be ended; return the call of one that rests."""
        handle = os.pidfd_open(self.pid)
        poller = select.poll()
        for descriptor in (handle, self._out, self._err, control, listener):
            poller.register(descriptor, select.POLLIN)
        try:
            for early in self._early:
                if (call := self._hear(listener, early, area, rest)) is not None:
                    return call
            while self.verdict == OK:
                left = self._until - time.monotonic()
                if left <= 0:
                    self.verdict = TIMEOUT
                    break
                ended = False
                for descriptor, _ in poller.poll(left * 1000 + 1):
                    if descriptor == handle:
                        ended = True
                    elif descriptor == listener:
                        words = conversation.receive(listener)
                        if words is not None and (call := self._hear(listener, words, area, rest)) is not None:
                            return call
                    elif descriptor == control:
                        raise InterruptedBatchError(gone=read_frame(control) is None)
                    elif not self._take(descriptor):
                        poller.unregister(descriptor)
                if ended:
                    break
            return None
        finally:
            os.close(handle)

    def drain(self) -> None:
        """Take what is left in the pipes."""
        for descriptor in (self._out, self._err):
            while self.verdict == OK and self._take(descriptor):
                pass

    def _hear(self, listener: int, words: conversation.Words, area: Area, rest: bool) -> int | None:
        if rest and words.speaker == self.pid and area.state == notes.OK and area.rests:
            return words.call
        conversation.refuse(listener, words)
        return None

    def _take(self, descriptor: int) -> bool:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        if descriptor == self._out:
            self.stdout.append(chunk)
            self._stdout_bytes += len(chunk)
        else:
            self.stderr_bytes += len(chunk)
        if max(self._stdout_bytes, self.stderr_bytes) > self._most:
            self.verdict = OUTPUT_LIMIT
        return True

"""One program from its order to the last trace of it: the pipes it writes to, the deadline, its end.

Standard library only: this runs inside the warden. It refuses to decide where a program starts from (``warden``).
"""

from __future__ import annotations

import os
import select
import time
from enum import Enum
from typing import NamedTuple

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import Area, Command
from rstar_executor.sandbox import notify
from rstar_executor.sandbox.limits import Limits, limit_program
from rstar_executor.warden.prefork import Births, LostError
from rstar_executor.warden.processes import Held, Processes
from rstar_executor.warden.snapshots import Resting
from rstar_executor.warden.status import EXCEPTION, INTERNAL, MEMORY, OK, OUTPUT_LIMIT, TIMEOUT, Seen, judge
from rstar_executor.warden.wire import read_frame
from rstar_executor.warden.zygotes import Root

_CHUNK = 65_536
_STANDARD_DESCRIPTORS = 3
_LARGE = 32 << 20  # bytes: to take so much back may last, and the next program is not to find it missing


class InterruptedBatchError(Exception):
    """The other side ended the batch; ``gone`` when it closed the socket."""

    def __init__(self, gone: bool) -> None:
        self.gone = gone


class Ended(NamedTuple):
    """What came of one program; ``resting`` is set where its interpreter waits to go on."""

    status: int
    reason: bytes
    traceback: bytes
    stdout: bytes
    seconds: float
    state: int
    resting: Resting | None


class Way(Enum):
    """How a program goes on from an interpreter that rests: in a fork, the next of which is made meanwhile, or in itself."""

    FORK, FORK_AND_AGAIN, ITSELF = range(3)


class Executions:
    """Runs one program at a time, in a newborn of ``births``; ``control`` is where the batch may be interrupted."""

    def __init__(self, control: int, area: Area, processes: Processes, births: Births) -> None:
        self._control, self._area, self._processes, self._births = control, area, processes, births
        self._killed_for_memory = processes.killed_for_memory()
        self.running: int | None = None

    def run(self, start: Resting, root: Root, limits: Limits, command: Command, keep: bool, way: Way) -> Ended:
        """Run ``command`` from where ``start`` rests, of the family of ``root``; with ``keep``, its interpreter may rest.

        Raises ``LostError`` when ``start`` is gone, ``InterruptedBatchError`` when the batch is to end.
        """
        began = time.monotonic()
        until = began + limits.seconds - start.seconds
        self._area.order(command, itself=way == Way.ITSELF)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            output = out_end, err_end
            pid = self._go_on(start, root, output) if way == Way.ITSELF else self._start(start, root, limits, output)
            if pid < 0:
                reason = f"cannot fork (error {-pid})".encode()
                return Ended(INTERNAL, reason, b"", b"", 0.0, shared_memory.UNPREPARED, None)
            self.running = pid
            if way == Way.FORK_AND_AGAIN:
                self._births.ask(start, root.listener)
            watch = _Watch(pid, out, err, until, limits.output_bytes, start, self._births)
            return self._finish(watch, start, root, limits, keep, began)
        finally:
            self.running = None
            for descriptor in (out, out_end, err, err_end):
                os.close(descriptor)
            self._area.wipe()

    def _start(self, start: Resting, root: Root, limits: Limits, output: tuple[int, int]) -> int:
        """Give a newborn its limits and its output and let it go; return it, or a negative error number."""
        while True:
            made_before = self._births.waits(start)
            newborn = self._births.take(start, root.listener)
            if newborn.pid < 0:
                return newborn.pid
            try:
                if start is root.resting:
                    limit_program(newborn.pid, limits, root.own_bytes)
                _wake(root.listener, newborn.call, output)
            except OSError as error:
                self._processes.end(newborn.pid)
                if not made_before:
                    raise LostError from error
            else:
                return newborn.pid

    def _go_on(self, start: Resting, root: Root, output: tuple[int, int]) -> int:
        """Let ``start`` itself go on."""
        try:
            _wake(root.listener, start.call, output)
        except OSError as error:
            raise LostError from error
        return start.pid

    def _finish(self, watch: _Watch, start: Resting, root: Root, limits: Limits, keep: bool, began: float) -> Ended:
        try:
            call = watch.until_end(root.listener, self._control, self._area)
        except BaseException:
            self._processes.end(watch.pid)
            raise
        seconds = time.monotonic() - began
        held = None if call is None else self._still(watch.pid)
        wait_status = None
        if held is None:
            status = self._processes.end(watch.pid)
            wait_status = status if call is None else None
        watch.drain()
        killed = self._memory_kill() if wait_status is not None and os.WIFSIGNALED(wait_status) else False
        seen = Seen(watch.verdict, wait_status, self._area.state, self._area.reason, killed)
        status, reason = judge(seen, limits)
        stdout = b"".join((start.stdout, *watch.stdout))
        resting = None
        if call is not None and held is not None:
            if (
                keep
                and status == OK
                and self._area.then == shared_memory.RESTS
                and held.descriptors == _STANDARD_DESCRIPTORS
            ):
                resting = Resting(watch.pid, call, stdout, watch.stderr_bytes, start.seconds + seconds, held.size)
            elif held.size > _LARGE:
                self._processes.end(watch.pid)
            else:
                self._processes.end_later(watch.pid)
        stdout = b"" if self._area.state == shared_memory.SYNTAX else stdout[: limits.output_bytes]
        traceback = self._area.traceback if status in (EXCEPTION, MEMORY) else b""
        return Ended(status, reason, traceback, stdout, seconds, self._area.state, resting)

    def _still(self, pid: int) -> Held | None:
        """Return what a process holds that waits, if it is all that there is of its program; else None."""
        try:
            held = self._processes.held(pid)
        except (OSError, IndexError, ValueError):
            return None
        return held if held.threads == 1 and not held.children else None

    def _memory_kill(self) -> bool:
        count = self._processes.killed_for_memory()
        before, self._killed_for_memory = self._killed_for_memory, count
        return count != before


def _wake(listener: int, call: int, output: tuple[int, int]) -> None:
    """Let an interpreter go on that writes to ``output``. Raises ``OSError`` when it is gone."""
    for number, descriptor in enumerate(output, 1):
        notify.install(listener, call, descriptor, number)
    notify.answer(listener, call)


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
        births: Births,
    ) -> None:
        self.pid, self._out, self._err, self._until, self._most = pid, out, err, until, output_bytes
        self._births = births
        self.stdout: list[bytes] = []
        self._stdout_bytes, self.stderr_bytes = len(start.stdout), start.stderr_bytes
        self.verdict = OK
        os.set_blocking(out, False)
        os.set_blocking(err, False)

    def until_end(self, listener: int, control: int, area: Area) -> int | None:
        """Wait until the program has ended, waits or has to be ended; return the call of one that waits."""
        handle = os.pidfd_open(self.pid)
        poller = select.poll()
        for descriptor in (handle, self._out, self._err, control, listener):
            poller.register(descriptor, select.POLLIN)
        try:
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
                        words = notify.receive(listener)
                        if words is not None and (call := self._hear(listener, words, area)) is not None:
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

    def _hear(self, listener: int, words: notify.Words, area: Area) -> int | None:
        if words.speaker == self.pid and area.then != shared_memory.LEAVES:
            return words.call
        if words.speaker == self.pid or not self._births.hear(words, listener):
            notify.refuse(listener, words)
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

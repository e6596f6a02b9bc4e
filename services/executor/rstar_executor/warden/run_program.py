"""Runs one program from its command to the end of its last process: pipes, deadline, output limits, exit.

Standard library only: this runs inside the warden. ``warden`` decides where a program starts from.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import NamedTuple

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import Command, SharedMemory
from rstar_executor.sandbox import notify
from rstar_executor.sandbox.limits import Limits, limit_program
from rstar_executor.warden.prefork import InterpreterLostError, Preforker
from rstar_executor.warden.processes import Processes, Usage
from rstar_executor.warden.snapshots import Snapshot
from rstar_executor.warden.status import (
    EXCEPTION,
    INTERNAL,
    MEMORY,
    OK,
    OUTPUT_LIMIT,
    TIMEOUT,
    Observation,
    exit_code,
    final_status,
)
from rstar_executor.warden.wire import read_frame
from rstar_executor.warden.zygotes import Zygote

_CHUNK = 65_536
_STANDARD_DESCRIPTORS = 3
_MOST_DRAINED = 32
"""Chunks read from a pipe after the end of a program: more than a pipe holds. A process that it left may still write."""
_LARGE_BYTES = 32 << 20
"""The kernel takes a while to free so much, and the next program must not lack it: the warden waits for the end."""


class InterruptedBatchError(Exception):
    """The server ended the batch; ``closed`` when it closed the socket."""

    def __init__(self, closed: bool) -> None:
        self.closed = closed


class ProgramResult(NamedTuple):
    """How one program ended; ``snapshot`` is set where its interpreter is paused and can be forked.

    ``stderr``, ``exit_code`` and ``cut`` (an output was longer than the limit) are those of a script.
    """

    status: int
    reason: bytes
    traceback: bytes
    stdout: bytes
    seconds: float
    state: int
    snapshot: Snapshot | None
    stderr: bytes = b""
    exit_code: int | None = None
    cut: bool = False


class ProgramRunner:
    """Runs one program at a time; an interruption of its batch arrives on ``control``."""

    def __init__(self, control: int, memory: SharedMemory, processes: Processes, preforker: Preforker) -> None:
        self._control, self._memory, self._processes, self._preforker = control, memory, processes, preforker
        self._killed_for_memory = processes.killed_for_memory()
        self.running: int | None = None

    def run(
        self,
        start: Snapshot,
        zygote: Zygote,
        limits: Limits,
        command: Command,
        keep: bool,
        prefork: bool,
        stdin: int | None = None,
    ) -> ProgramResult:
        """Run ``command`` in a fork of ``start``, which descends from ``zygote``.

        ``keep``: make a snapshot of its end if that is possible; ``prefork``: fork ``start`` for the next program meanwhile;
        ``stdin``: a descriptor for its standard input, which is empty otherwise. The output of a script beyond the limit is
        dropped; any other program with too much output is ended.

        Raises ``InterpreterLostError`` when ``start`` is gone, ``InterruptedBatchError`` when the batch is to end.
        """
        began = time.monotonic()
        deadline = began + limits.seconds - start.seconds
        self._memory.write_command(command)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            standard = {1: out_end, 2: err_end} if stdin is None else {0: stdin, 1: out_end, 2: err_end}
            pid = self._start_fork(start, zygote, limits, standard)
            if pid < 0:
                reason = f"cannot fork (error {-pid})".encode()
                return ProgramResult(INTERNAL, reason, b"", b"", 0.0, shared_memory.NOT_STARTED, None)
            self.running = pid
            if prefork:
                self._preforker.start(start, zygote.listener)
            program = _RunningProgram(
                pid, out, err, deadline, limits.output_bytes, start, self._preforker, command.script
            )
            return self._finish(program, start, zygote, limits, keep, began)
        finally:
            self.running = None
            for descriptor in (out, out_end, err, err_end):
                os.close(descriptor)
            self._memory.wipe()

    def _start_fork(self, start: Snapshot, zygote: Zygote, limits: Limits, standard: Mapping[int, int]) -> int:
        """Give a fork of ``start`` its limits and its ``standard`` descriptors (number: descriptor here) and resume it.

        Returns its pid or a negative error number.
        """
        while True:
            made_before = self._preforker.is_ready(start)
            process = self._preforker.take(start, zygote.listener)
            if process.pid < 0:
                return process.pid
            try:
                if start is zygote.snapshot:
                    limit_program(process.pid, limits, zygote.own_bytes)
                _resume(zygote.listener, process.notification, standard)
            except OSError as error:
                self._processes.end(process.pid)
                if not made_before:
                    raise InterpreterLostError from error
            else:
                return process.pid

    def _finish(
        self, program: _RunningProgram, start: Snapshot, zygote: Zygote, limits: Limits, keep: bool, began: float
    ) -> ProgramResult:
        try:
            notification = program.wait(zygote.listener, self._control, self._memory)
        except BaseException:
            self._processes.end(program.pid)
            raise
        seconds = time.monotonic() - began
        usage = None if notification is None else self._usage_if_alone(program.pid)
        wait_status = None
        if usage is None:
            status = self._processes.end(program.pid)
            wait_status = status if notification is None else None
        program.drain()
        killed = self._kernel_killed_for_memory() if wait_status is not None and os.WIFSIGNALED(wait_status) else False
        seen = Observation(program.exceeded, wait_status, self._memory.state, self._memory.reason, killed)
        status, reason = final_status(seen, limits)
        stdout = b"".join((start.stdout, *program.stdout))
        snapshot = None
        if notification is not None and usage is not None:
            if (
                keep
                and status == OK
                and self._memory.next_action == shared_memory.AWAIT_FORK
                and usage.descriptors == _STANDARD_DESCRIPTORS
            ):
                spent = start.seconds + seconds
                snapshot = Snapshot(program.pid, notification, stdout, program.stderr_bytes, spent, usage.size)
            elif usage.size > _LARGE_BYTES:
                self._processes.end(program.pid)
            else:
                self._processes.end_later(program.pid)
        stdout = b"" if self._memory.state == shared_memory.SYNTAX else stdout[: limits.output_bytes]
        traceback = self._memory.traceback if status in (EXCEPTION, MEMORY) else b""
        return ProgramResult(
            status,
            reason,
            traceback,
            stdout,
            seconds,
            self._memory.state,
            snapshot,
            b"".join(program.stderr),
            exit_code(status, seen, self._memory.exit_code),
            program.cut,
        )

    def _usage_if_alone(self, pid: int) -> Usage | None:
        """Return the usage of a paused process without further threads or children; else None."""
        try:
            usage = self._processes.usage(pid)
        except (OSError, IndexError, ValueError):
            return None
        return usage if usage.threads == 1 and not usage.children else None

    def _kernel_killed_for_memory(self) -> bool:
        count = self._processes.killed_for_memory()
        before, self._killed_for_memory = self._killed_for_memory, count
        return count != before


def _resume(listener: int, notification: int, standard: Mapping[int, int]) -> None:
    """Give a paused interpreter its standard descriptors and resume it. Raises ``OSError`` when it is gone."""
    for number, descriptor in standard.items():
        notify.install(listener, notification, descriptor, number)
    notify.reply(listener, notification)


class _RunningProgram:
    """A running program: collects its output and notices its end."""

    def __init__(
        self,
        pid: int,
        out: int,
        err: int,
        deadline: float,
        output_bytes: int,
        start: Snapshot,
        preforker: Preforker,
        script: bool,
    ) -> None:
        self._script, self.cut = script, False
        self.stderr: list[bytes] = []
        self.pid, self._out, self._err, self._deadline, self._output_limit = pid, out, err, deadline, output_bytes
        self._preforker = preforker
        self.stdout: list[bytes] = []
        self._stdout_bytes, self.stderr_bytes = len(start.stdout), start.stderr_bytes
        self.exceeded = OK
        os.set_blocking(out, False)
        os.set_blocking(err, False)

    def wait(self, listener: int, control: int, memory: SharedMemory) -> int | None:
        """Wait until the program has exited, paused or exceeded a limit; return its notification if it has paused."""
        handle = os.pidfd_open(self.pid)
        poller = select.poll()
        for descriptor in (handle, self._out, self._err, control, listener):
            poller.register(descriptor, select.POLLIN)
        try:
            while self.exceeded == OK:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self.exceeded = TIMEOUT
                    break
                exited = False
                for descriptor, events in poller.poll(left * 1000 + 1):
                    if descriptor == handle:
                        exited = True
                    elif descriptor == listener and not events & select.POLLIN:
                        poller.unregister(listener)  # hung up: its processes are dead, and ``receive`` would block
                    elif descriptor == listener:
                        notification = notify.receive(listener)
                        if notification is not None and self._has_paused(listener, notification, memory):
                            return notification.id
                    elif descriptor == control:
                        raise InterruptedBatchError(closed=read_frame(control) is None)
                    elif not self._read(descriptor):
                        poller.unregister(descriptor)
                if exited:
                    break
            return None
        finally:
            os.close(handle)

    def drain(self) -> None:
        """Read what is left in the pipes."""
        for descriptor in (self._out, self._err):
            for _ in range(_MOST_DRAINED):
                if self.exceeded != OK or not self._read(descriptor):
                    break

    def _has_paused(self, listener: int, notification: notify.Notification, memory: SharedMemory) -> bool:
        """Say whether the notification is the program's own pause; pass every other one on, or refuse it."""
        if notification.pid == self.pid and memory.next_action != shared_memory.EXIT:
            return True
        if notification.pid == self.pid or not self._preforker.handle(notification, listener):
            notify.refuse(listener, notification)
        return False

    def _read(self, descriptor: int) -> bool:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        if self._script:
            self._keep(descriptor, chunk)
            return True
        if descriptor == self._out:
            self.stdout.append(chunk)
            self._stdout_bytes += len(chunk)
        else:
            self.stderr_bytes += len(chunk)
        if max(self._stdout_bytes, self.stderr_bytes) > self._output_limit:
            self.exceeded = OUTPUT_LIMIT
        return True

    def _keep(self, descriptor: int, chunk: bytes) -> None:
        """Keep what the limit leaves of a script's output, of each stream."""
        before = self._stdout_bytes if descriptor == self._out else self.stderr_bytes
        kept = chunk[: self._output_limit - before]
        self.cut = self.cut or len(kept) < len(chunk)
        if descriptor == self._out:
            self.stdout.append(kept)
            self._stdout_bytes += len(kept)
        else:
            self.stderr.append(kept)
            self.stderr_bytes += len(kept)

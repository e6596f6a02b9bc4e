"""A warm interpreter that forks once per program, watches the child to its end and leaves nothing of it behind.

It reads batches from an inherited socket and answers each with one frame per program and an empty frame. A frame is
four bytes of length (big endian) and the payload. A batch is JSON ``{"limits": [...], "programs": [...]}``; an
empty frame from the other side ends the running batch early. When the socket closes, the zygote ends, and the running
program with it.

It is the parent of all it starts, and adopts what they start (a subreaper): a descendant that left its group and its
session is still found and killed. Standard library only, and as little of it as possible: a fork copies the page
tables of whatever is loaded. It refuses to trust a child: results are read when nothing of it runs any more.
"""

# pathlib is not loaded: it would weigh on every fork.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from typing import NamedTuple, NoReturn

from rstar_executor import isolation, runner
from rstar_executor.frames import read_frame, write_frame
from rstar_executor.isolation import Limits
from rstar_executor.scratch import Scratch, remove

STATUSES = ("ok", "exception", "timeout", "memory", "output_limit", "crashed", "internal")
OK, EXCEPTION, TIMEOUT, MEMORY, OUTPUT_LIMIT, CRASHED, INTERNAL = range(len(STATUSES))
RESULT = struct.Struct("!BdI")
"""Head of a result: status, milliseconds, bytes of reason; the reason and the standard output follow."""

_CHUNK = 65_536
_FROM_NOTE = {runner.OK: OK, runner.EXCEPTION: EXCEPTION, runner.MEMORY: MEMORY}


class InterruptedBatchError(Exception):
    """The other side ended the batch; ``gone`` when it closed the socket."""

    def __init__(self, gone: bool) -> None:
        self.gone = gone


class Ending(NamedTuple):
    """How a child ended: what the zygote did to it (a status, or OK for nothing), its output, its wait status."""

    verdict: int
    stdout: bytes
    wait_status: int


class Zygote:
    """The state that outlives a program: the control socket, the note, the working directory."""

    def __init__(self, control: int, directory: str) -> None:
        self.control = control
        self.note = mmap.mmap(-1, runner.NOTE_BYTES)
        self.scratch = Scratch(directory)
        self.children = f"/proc/self/task/{os.getpid()}/children"
        self.own_bytes = isolation.own_address_space()
        self.oom_kills = _oom_kills()

    def serve(self) -> None:
        """Answer batches until the socket closes."""
        while (frame := read_frame(self.control)) is not None:
            if not frame:
                continue  # an interruption that came when its batch had just ended
            batch = json.loads(frame)
            limits = Limits(*batch["limits"])
            try:
                for source in batch["programs"]:
                    write_frame(self.control, self.execute(source, limits))
            except InterruptedBatchError as interruption:
                if interruption.gone:
                    return
            write_frame(self.control, b"")

    def execute(self, source: str, limits: Limits) -> bytes:
        """Run one program from fork to the last trace of it; return its result frame."""
        self.note[0] = runner.UNPREPARED
        started = time.monotonic()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in (out, out_end, err, err_end):
                os.close(descriptor)
            return _result(INTERNAL, 0.0, f"cannot fork: {error}".encode(), b"")
        if pid == 0:
            self._child(source, limits, out_end, err_end)
        os.close(out_end)
        os.close(err_end)
        try:
            ending = self._watch(pid, out, err, started + limits.seconds, limits.output_bytes)
        finally:
            os.close(out)
            os.close(err)
            self.scratch.clean()
        milliseconds = (time.monotonic() - started) * 1000
        status, reason = self._judge(ending, limits)
        return _result(status, milliseconds, reason, ending.stdout)

    def _child(self, source: str, limits: Limits, out: int, err: int) -> NoReturn:
        try:
            isolation.enter(limits, self.own_bytes, out, err, self.scratch.path)
            gc.enable()
            runner.run(source, self.note)
        finally:
            os._exit(1)

    def _watch(self, pid: int, out: int, err: int, deadline: float, output_bytes: int) -> Ending:
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        handle = os.pidfd_open(pid)
        poller = select.poll()
        for descriptor in (handle, out, err, self.control):
            poller.register(descriptor, select.POLLIN)
        verdict, ended, size = OK, False, {out: 0, err: 0}
        stdout: list[bytes] = []
        try:
            while verdict == OK and not ended:
                left = deadline - time.monotonic()
                if left <= 0:
                    verdict = TIMEOUT
                    break
                for descriptor, _ in poller.poll(left * 1000 + 1):
                    if descriptor == handle:
                        ended = True
                    elif descriptor == self.control:
                        raise InterruptedBatchError(gone=read_frame(self.control) is None)
                    elif chunk := _read(descriptor):
                        size[descriptor] += len(chunk)
                        if descriptor == out:
                            stdout.append(chunk)
                        if size[descriptor] > output_bytes:
                            verdict = OUTPUT_LIMIT
                    else:
                        poller.unregister(descriptor)
        finally:
            os.close(handle)
            wait_status = self._end(pid)
        while verdict == OK and (chunk := _read(out)):
            size[out] += len(chunk)
            stdout.append(chunk)
            if size[out] > output_bytes:
                verdict = OUTPUT_LIMIT
        return Ending(verdict, b"".join(stdout)[:output_bytes], wait_status)

    def _end(self, pid: int) -> int:
        """Kill the child, its group and every descendant; return its wait status when none is left."""
        os.kill(pid, signal.SIGKILL)
        # Before the child is reaped: until then nobody else can have its group's number.
        with contextlib.suppress(ProcessLookupError):  # it had not made its session yet
            os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        while True:
            try:
                reaped = os.waitpid(-1, os.WNOHANG)[0]
            except ChildProcessError:
                return status
            if reaped == 0:
                with open(self.children) as children:
                    living = children.read().split()
                for child in living:
                    os.kill(int(child), signal.SIGKILL)
                if living:
                    os.waitpid(-1, 0)

    def _judge(self, ending: Ending, limits: Limits) -> tuple[int, bytes]:
        if ending.verdict == TIMEOUT:
            return TIMEOUT, f"not finished after {limits.seconds:g} s".encode()
        if ending.verdict == OUTPUT_LIMIT:
            return OUTPUT_LIMIT, f"more than {limits.output_bytes} bytes of output".encode()
        noted = self.note[0]
        if noted == runner.UNPREPARED:
            return INTERNAL, b"the program's process could not be set up"
        if os.WIFSIGNALED(ending.wait_status):
            return self._judge_signal(os.WTERMSIG(ending.wait_status), limits)
        code = os.WEXITSTATUS(ending.wait_status)
        status = _FROM_NOTE.get(noted)
        if code != 0 or status is None:
            return CRASHED, f"left by os._exit({code}) before its end".encode()
        if status == OK:
            return OK, b""
        return status, self.note[1:].split(b"\0", 1)[0]

    def _judge_signal(self, number: int, limits: Limits) -> tuple[int, bytes]:
        if number == signal.SIGXCPU:
            return TIMEOUT, f"not finished after {limits.seconds:g} s".encode()
        if number == signal.SIGKILL and (kills := _oom_kills()) != self.oom_kills:
            self.oom_kills = kills
            return MEMORY, b"killed: the machine ran out of memory"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return CRASHED, f"killed by {name}".encode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return b""


def _result(status: int, milliseconds: float, reason: bytes, stdout: bytes) -> bytes:
    return RESULT.pack(status, milliseconds, len(reason)) + reason + stdout


def _oom_kills() -> bytes:
    """Return the kernel's count of processes killed for memory: it tells an OOM kill from any other SIGKILL."""
    with open("/proc/vmstat", "rb") as counters:
        return next((line for line in counters if line.startswith(b"oom_kill ")), b"")


def _load(modules: list[str]) -> None:
    for module in modules:
        try:
            __import__(module)
        except ImportError:  # the program that wants it will say so
            continue
    # Their state is inherited as it is; the random module's is not, and is seeded in each child.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "sympy" in sys.modules:
        __import__("sympy.core.random")
        sys.modules["sympy.core.random"].seed(0)


def main() -> None:
    """Become a zygote: ``argv`` is this package's folder, the control descriptor, a directory, paths, modules."""
    import builtins
    from _sitebuiltins import Quitter

    _, package, control, directory, paths, modules = sys.argv
    sys.path.remove(package)
    sys.path += json.loads(paths)
    sys.argv = ["program.py"]
    vars(builtins).update(exit=Quitter("exit", "Ctrl-D"), quit=Quitter("quit", "Ctrl-D"))
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    isolation.prepare()
    _load(json.loads(modules))
    # A low number: programs close what is below their limit of descriptors.
    low = os.dup(int(control))
    os.close(int(control))
    zygote = Zygote(low, directory)
    gc.collect()
    gc.disable()
    gc.freeze()
    write_frame(zygote.control, b"ready")
    with contextlib.suppress(BrokenPipeError):
        zygote.serve()
    remove(directory)

"""The server's client of one warden: starts the process, sends it batches, interrupts and ends it.

A warden is not trusted: one that answers late, too much or out of turn has failed and is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from rstar.interfaces import Execution, ExecutionStatus
from rstar_executor.interpreter.shared_memory import REASON_BYTES, TRACEBACK_BYTES
from rstar_executor.sandbox import Layer
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server import scripts
from rstar_executor.server.import_check import LIBRARIES, module_folders
from rstar_executor.server.programs import PRELOADED, Kind
from rstar_executor.warden.scratch import remove
from rstar_executor.warden.script import Script
from rstar_executor.warden.status import STATUSES
from rstar_executor.warden.warden import LAST_FRAME, RESULT, RESULT_FRAME, SCRIPT_FRAME
from rstar_executor.warden.wire import LENGTH

START_SECONDS: Final = 60.0
GRACE_SECONDS: Final = 75.0
"""How far a program may exceed its limit before the warden counts as lost: a zygote may have to load first, for which the
warden allows 60 s."""

_ENDING_SECONDS = 5.0
_LARGEST_OTHER_FRAME = 65_536
_PACKAGE = str(Path(__file__).parents[2])
_LAUNCH = "import sys; sys.path.insert(0, sys.argv[1]); from rstar_executor.warden.main import main; main()"
# No -I: it would ignore PYTHONHASHSEED. -S: programs must not reach editable installs and .pth files.
_COMMAND = (sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _LAUNCH, _PACKAGE)
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class WardenFailedError(Exception):
    """The warden died or broke the protocol: it must be ended and replaced."""


@dataclass
class Batch:
    """The programs of one call and their results so far; ``tracebacks``: run each from its start, with tracebacks.

    With ``script``, the only candidate is a script with this input, and its result a ``scripts.ScriptExecution``.
    """

    kind: Kind
    steps: Sequence[str]
    candidates: Sequence[str]
    limits: Limits
    tracebacks: bool = False
    script: Script | None = None
    results: list[Execution] = field(default_factory=list)

    def remaining(self) -> Sequence[str]:
        """Return the candidates that have no result yet."""
        return self.candidates[len(self.results) :]


class BatchStats(NamedTuple):
    """A warden's report at the end of a batch: candidates that ran from a snapshot; its snapshots and their bytes now.

    ``unusable``: why it can run no more programs; the remaining ones need another warden.
    """

    resumed: int
    snapshots: int
    snapshot_bytes: int
    unusable: str = ""


class WardenProcess:
    """One warden; it runs one batch at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        directory: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._process = process
        self._directory = directory
        self._reader, self._writer = streams
        self._interrupted = False
        self.layers: Sequence[Layer] = ()
        self.stats = BatchStats(0, 0, 0)
        self.programs = 0

    @classmethod
    async def start(cls, snapshot_bytes: int) -> Self:
        """Start a warden with this much memory for snapshots. Raises ``WardenFailedError`` when it does not become ready."""
        ours, theirs = socket.socketpair()
        directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="rstar-executor-")
        try:
            process = await asyncio.to_thread(_spawn, theirs, directory, snapshot_bytes)
        except OSError as error:
            ours.close()
            remove(directory)
            raise WardenFailedError(f"cannot start a warden: {error}") from error
        finally:
            theirs.close()
        warden = cls(process, directory, await asyncio.open_unix_connection(sock=ours))
        try:
            async with asyncio.timeout(START_SECONDS):
                report = json.loads(await warden._frame(_LARGEST_OTHER_FRAME))
            if isinstance(report, str):
                raise WardenFailedError(report)
            warden.layers = [Layer(*fields) for fields in report]
        except BaseException as error:
            await warden.end()
            if not isinstance(error, (OSError, EOFError, TimeoutError, ValueError, TypeError)):
                raise
            raise WardenFailedError("a warden did not become ready; standard error has its reason") from error
        return warden

    @property
    def pid(self) -> int:
        """The process id of the started process; the warden is its only child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    async def run(self, batch: Batch) -> None:
        """Run the remaining candidates of ``batch`` and append each result as it arrives.

        Returns early after ``interrupt`` and when the warden is unusable. Raises ``WardenFailedError``; results so far hold.
        """
        self._interrupted = False
        candidates = batch.remaining()
        request = {
            "kind": batch.kind,
            "limits": batch.limits,
            "steps": list(batch.steps),
            "candidates": list(candidates),
            "tracebacks": batch.tracebacks,
            "script": batch.script,
        }
        data = json.dumps(request).encode()
        if batch.script is None:
            wanted, decode = RESULT_FRAME, _execution
            largest = 1 + RESULT.size + REASON_BYTES + TRACEBACK_BYTES + batch.limits.output_bytes
        else:
            wanted, decode = SCRIPT_FRAME, scripts.read_result
            largest = 1 + scripts.largest_result(batch.limits, batch.script)
        # The shared steps may have to run first.
        patience = batch.limits.seconds * (2 if batch.steps else 1) + GRACE_SECONDS
        try:
            self._writer.write(LENGTH.pack(len(data)) + data)
            await self._writer.drain()
            for _ in range(len(candidates) + 1):
                async with asyncio.timeout(patience):
                    frame = await self._frame(max(largest, _LARGEST_OTHER_FRAME))
                if frame[:1] == LAST_FRAME:
                    resumed, snapshots, size, unusable = json.loads(frame[1:])
                    self.stats = BatchStats(int(resumed), int(snapshots), int(size), str(unusable))
                    if batch.remaining() and not (self._interrupted or self.stats.unusable):
                        raise ValueError("a batch that ended early")
                    return
                if frame[:1] != wanted or not batch.remaining():
                    raise ValueError("a frame out of turn")
                batch.results.append(decode(frame[1:]))
                self.programs += 1
            raise ValueError("a frame too many")
        except TimeoutError as error:
            raise WardenFailedError("the executor's process did not answer in time") from error
        except (OSError, EOFError) as error:
            raise WardenFailedError("the executor's process died") from error
        except (ValueError, TypeError, IndexError, struct.error) as error:
            raise WardenFailedError("the executor's process answered out of turn") from error

    def interrupt(self) -> None:
        """End the running batch early and kill its running program."""
        self._interrupted = True
        self._writer.write(LENGTH.pack(0))

    async def end(self) -> None:
        """End the warden and its programs, by force if necessary, and remove its directory."""
        self._writer.close()
        await asyncio.to_thread(self._reap)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _reap(self) -> None:
        try:
            self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        remove(self._directory)

    async def _frame(self, largest: int) -> bytes:
        (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if size > largest:
            raise ValueError(f"a frame of {size} bytes, expected at most {largest}")
        return await self._reader.readexactly(size)


def _spawn(control: socket.socket, directory: str, snapshot_bytes: int) -> subprocess.Popen[bytes]:
    configuration = {
        "control": control.fileno(),
        "directory": directory,
        "paths": module_folders(),
        "modules": {kind.value: modules for kind, modules in PRELOADED.items()},
        "snapshot_bytes": snapshot_bytes,
        "group_bytes": 8 << 30,
        "group_processes": 4096,
    }
    return subprocess.Popen(
        [*_COMMAND, json.dumps(configuration)],
        env=_ENVIRONMENT | LIBRARIES,
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=directory,
        start_new_session=True,
    )


def _execution(frame: bytes) -> Execution:
    status, milliseconds, reason_bytes, traceback_bytes = RESULT.unpack_from(frame)
    reason_end = RESULT.size + reason_bytes
    traceback_end = reason_end + traceback_bytes
    return Execution(
        ExecutionStatus(STATUSES[status]),
        frame[traceback_end:].decode("utf-8", "replace"),
        frame[RESULT.size : reason_end].decode("utf-8", "replace"),
        milliseconds,
        frame[reason_end:traceback_end].decode("utf-8", "replace"),
    )

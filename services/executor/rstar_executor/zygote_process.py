"""A zygote as the service sees it: a child process to start, to hand programs, to interrupt, to end.

The module refuses to believe a zygote: one that answers late, too much or out of turn has failed, and is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus
from rstar_executor.frames import LENGTH
from rstar_executor.runner import NOTE_BYTES
from rstar_executor.scratch import remove
from rstar_executor.zygote import RESULT, STATUSES

START_SECONDS: Final = 60.0
GRACE_SECONDS: Final = 5.0
"""How much longer than its limit a program may take until the zygote itself counts as lost."""

_ENDING_SECONDS = 2.0
_PACKAGE = str(Path(__file__).parent.parent)
_LAUNCH = "import sys; sys.path.insert(0, sys.argv[1]); from rstar_executor.zygote import main; main()"
# No -I: it would ignore PYTHONHASHSEED. No site: editable installs and .pth files stay out of the programs' reach.
_COMMAND = (sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _LAUNCH, _PACKAGE)
# One thread per program: there are as many programs at once as there are cores.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}


class ZygoteFailedError(Exception):
    """The zygote died or misbehaved: it must be ended and replaced."""


class ZygoteProcess:
    """One zygote; it runs one batch at a time."""

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

    @classmethod
    async def start(cls, modules: Sequence[str]) -> Self:
        """Start a zygote that has imported ``modules``. Raises ``ZygoteFailedError`` when it does not get ready."""
        ours, theirs = socket.socketpair()
        directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="rstar-executor-")
        try:
            process = await asyncio.to_thread(_spawn, theirs, directory, modules)
        except OSError as error:
            ours.close()
            remove(directory)
            raise ZygoteFailedError(f"cannot start a zygote: {error}") from error
        finally:
            theirs.close()
        zygote = cls(process, directory, await asyncio.open_unix_connection(sock=ours))
        try:
            async with asyncio.timeout(START_SECONDS):
                await zygote._read(len(b"ready"))
        except (OSError, EOFError, TimeoutError) as error:
            await zygote.end()
            raise ZygoteFailedError("a zygote did not get ready; its own words are on standard error") from error
        return zygote

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    async def run(self, programs: Sequence[str], limits: ExecutionLimits, results: list[Execution]) -> None:
        """Run ``programs`` one after the other and append each result to ``results`` as it comes.

        Returns early after ``interrupt``. Raises ``ZygoteFailedError``; what is in ``results`` by then holds.
        """
        self._interrupted = False
        values = (limits.seconds, limits.memory_mib, limits.output_bytes, limits.file_mib)
        request = json.dumps({"limits": values, "programs": programs}).encode()
        largest = RESULT.size + NOTE_BYTES + limits.output_bytes
        try:
            self._writer.write(LENGTH.pack(len(request)) + request)
            await self._writer.drain()
            for _ in programs:
                async with asyncio.timeout(limits.seconds + GRACE_SECONDS):
                    frame = await self._read(largest)
                if not frame and self._interrupted:
                    return
                results.append(_execution(frame))
            async with asyncio.timeout(GRACE_SECONDS):
                await self._read(0)
        except TimeoutError as error:
            raise ZygoteFailedError("the executor's process did not answer in time") from error
        except (OSError, EOFError) as error:
            raise ZygoteFailedError("the executor's process died") from error
        except (ValueError, IndexError, struct.error) as error:
            raise ZygoteFailedError("the executor's process answered out of turn") from error

    def interrupt(self) -> None:
        """Have the running batch end early; its running program is killed."""
        self._interrupted = True
        self._writer.write(LENGTH.pack(0))

    async def end(self) -> None:
        """End the zygote and what it runs, by force if need be, and remove its directory."""
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

    async def _read(self, largest: int) -> bytes:
        (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if size > largest:
            raise ValueError(f"a frame of {size} bytes, expected at most {largest}")
        return await self._reader.readexactly(size)


def _spawn(control: socket.socket, directory: str, modules: Sequence[str]) -> subprocess.Popen[bytes]:
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    descriptor = control.fileno()
    # Some interpreters do not find their own library without it; the zygote clears its environment.
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(
        [*_COMMAND, str(descriptor), directory, json.dumps(paths), json.dumps(modules)],
        env=_ENVIRONMENT | libraries,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=directory,
        start_new_session=True,
    )


def _execution(frame: bytes) -> Execution:
    status, milliseconds, length = RESULT.unpack_from(frame)
    reason = frame[RESULT.size : RESULT.size + length].decode("utf-8", "replace")
    stdout = frame[RESULT.size + length :].decode("utf-8", "replace")
    return Execution(ExecutionStatus(STATUSES[status]), stdout, reason, milliseconds)

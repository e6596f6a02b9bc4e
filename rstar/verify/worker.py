"""A Python worker process that answers JSON lines and can be killed.

It is a plain child with two pipes, because ``multiprocessing`` would run the caller's main module again in every
child (a script without a guard breaks, a service's main module loads its models), and a fork of a process with
gRPC's threads is unsafe.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from typing import Any

START_SECONDS = 60.0
"""Deadline for a child to import its module, on a busy machine."""


class Worker:
    """Runs ``python -m module arguments...``, which prints a line when it is ready, then a JSON line per JSON line it reads.

    The child gets no signals of the terminal: Ctrl-C ends the parent, and the end of the pipe then ends the child. It
    is killed with this object, at the latest at interpreter exit. Not for use by two threads at once.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        self._ready = False
        self._finalizer = weakref.finalize(self, _end, self._process)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send ``request`` and return the reply.

        Raises ``TimeoutError`` after ``seconds``, counted from when the child is ready, and ``EOFError`` when it has
        ended. In both cases the child is killed.
        """
        try:
            if not self._ready:
                self._read_line(START_SECONDS)
                self._ready = True
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            reply: dict[str, Any] = json.loads(self._read_line(seconds))
        except BrokenPipeError:
            self.kill()
            raise EOFError from None
        except BaseException:
            self.kill()
            raise
        return reply

    def kill(self) -> None:
        """End the child at once. Does nothing if it has ended."""
        self._finalizer()

    def _read_line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(descriptor, 65_536)
                if not piece:
                    raise EOFError
                line += piece
        return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()

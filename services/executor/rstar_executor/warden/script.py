"""A script: a program that runs as ``python program.py`` does, with standard input and files, and its result.

Standard input is a sealed file in memory, not a pipe: the warden need not feed it while the program runs, and a program
can neither write into it nor block the warden by not reading it. Standard library only: this runs inside the warden.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rstar_executor.warden.run_program import ProgramResult

HEAD: Final = struct.Struct("!I")
"""Bytes of the JSON with which a result starts."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


class Script(NamedTuple):
    """The input of a script beside its text; bytes are in base64, and paths are relative, of plain names.

    ``stdin``: None leaves standard input empty; ``files``: path and contents; ``fetch``: paths that are read after its end,
    ``fetch_bytes`` in all.
    """

    stdin: str | None
    files: Sequence[Sequence[str]]
    fetch: Sequence[str]
    fetch_bytes: int

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Return the paths of ``files`` with their contents."""
        for path, data in self.files:
            yield path, base64.b64decode(data)


@contextlib.contextmanager
def standard_input(script: Script) -> Iterator[int | None]:
    """Yield a descriptor from which the standard input of ``script`` can be read, and nothing be written; None for none."""
    if script.stdin is None:
        yield None
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(base64.b64decode(script.stdin))
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        yield descriptor
    finally:
        os.close(descriptor)


def encode_result(result: ProgramResult, files: Sequence[tuple[int, bytes]], too_large: Sequence[int]) -> bytes:
    """Return the frame of a result: a head in JSON, standard output, standard error and the contents of ``files``."""
    head = json.dumps(
        (
            result.status,
            result.seconds * 1000,
            result.exit_code,
            result.reason.decode("utf-8", "replace"),
            result.cut,
            (len(result.stdout), len(result.stderr)),
            [(index, len(data)) for index, data in files],
            list(too_large),
        )
    ).encode()
    return b"".join((HEAD.pack(len(head)), head, result.stdout, result.stderr, *(data for _, data in files)))

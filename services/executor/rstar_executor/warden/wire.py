"""Frames on a blocking socket between the executor's server and a warden: four bytes of length (big endian), payload.

Standard library only: this runs inside the warden.
"""

from __future__ import annotations

import os
import struct

LENGTH = struct.Struct("!I")


def read_frame(descriptor: int) -> bytes | None:
    """Read one frame; None when the other side has closed."""
    head = _read_exactly(descriptor, LENGTH.size)
    return None if head is None else _read_exactly(descriptor, LENGTH.unpack(head)[0])


def write_frame(descriptor: int, payload: bytes) -> None:
    """Write one frame."""
    data = memoryview(LENGTH.pack(len(payload)) + payload)
    while data:
        data = data[os.write(descriptor, data) :]


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

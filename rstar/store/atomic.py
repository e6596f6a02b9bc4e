"""The atomic, durable replacement of a small or large file: all that must survive a crash is written through it.

Covered: a reader, and a restart after a crash or a power cut, finds the old content or the new one, never a part;
of concurrent writers the last one wins. Not covered: a process killed in the middle leaves its temporary file
(``TEMPORARY``), which stores and digests leave out.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

TEMPORARY: Final = ".tmp-"
"""Begins the name of a file that is still being written; no key of a store may contain a segment like it."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends; an exception in the block leaves ``path`` as it is.

    The temporary file is in the folder of ``path``, which is made if it is missing. ``durable=False`` skips fsync, which
    may wait seconds for a busy disk: only for a file whose loss costs nothing. Raises ``OSError`` where the folder cannot
    be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    file = temporary.open("xb")
    try:
        with file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable: the folder's entry is data too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Sequences of token ids in a file that is mapped into memory: four bytes per token on disk, and none in Python objects.

The paper's data are more than a billion tokens. Pages of a mapped file are dropped when memory is short, and shared by
forked processes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]


class TokenFile:
    """Sequences in the order in which they were appended. Nothing can be appended after the first read."""

    def __init__(self, path: Path) -> None:
        """Create the file, which must stay until the last read."""
        self._path = path
        self._file = path.open("wb")
        self._ends = array("q", [0])
        self._tokens: Tokens | None = None

    def append(self, ids: Sequence[int] | Tokens) -> int:
        """Add a sequence and return its position."""
        self._file.write(np.asarray(ids, dtype=np.int32).tobytes())
        self._ends.append(self._ends[-1] + len(ids))
        return len(self._ends) - 2

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> Tokens:
        """Return a sequence as a view of the file."""
        if self._tokens is None:
            self._file.close()
            empty = self._ends[-1] == 0  # an empty file cannot be mapped
            self._tokens = np.empty(0, np.int32) if empty else np.memmap(self._path, np.int32, mode="r")
        return self._tokens[self._ends[position] : self._ends[position + 1]]

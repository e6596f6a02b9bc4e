"""The header of a safetensors file: names and shapes of its tensors, without their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_MOST_HEADER_BYTES: Final = 100_000_000
"""The format's own limit."""


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a safetensors file by name. Raises ``ValueError`` unless its length is what its header states."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
            raise ValueError(
                f"{file} is no safetensors file, or only its beginning ({size} bytes): copy the checkpoint again"
            )
        try:
            entries: dict[str, Any] = json.loads(opened.read(length))
            tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
            ends = [int(entry["data_offsets"][1]) for entry in tensors.values()]
            shapes = {name: tuple(int(length) for length in entry["shape"]) for name, entry in tensors.items()}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{file} has a header that cannot be read ({error}): copy the checkpoint again") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ValueError(f"{file} is incomplete: {size} of {expected} bytes; copy the checkpoint again")
    return shapes

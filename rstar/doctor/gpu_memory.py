"""The free memory of the GPUs that this process may use, from ``nvidia-smi``: no CUDA context is made."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from rstar.local.devices import visible_gpus

_QUERY: Final = ("nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits")
_MIB: Final = 1 << 20


def free_gpu_bytes(query: Sequence[str] = _QUERY) -> int:
    """Return the free bytes of all visible GPUs; 0 without GPUs or without ``nvidia-smi``."""
    visible = visible_gpus()
    if not visible:
        return 0
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return free_of(listed, visible)


def free_of(listed: str, visible: Sequence[str]) -> int:
    r"""Return the free bytes of the GPUs named in ``visible`` by number or UUID. Pure.

    >>> free_of("0, GPU-1a, 1024\n1, GPU-2b, 2048\n", ("1",))
    2147483648
    """
    rows = [[part.strip() for part in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    return sum(int(free) * _MIB for index, uuid, free in rows if {index, uuid} & set(visible) and free.isdigit())

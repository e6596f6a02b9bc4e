"""The memory that this process can still take: caches of keys and values are a share of it.

On a CPU that is what the system counts as available, but not more than the process's control group (version 1 or 2)
leaves. Not covered: a lower limit of an enclosing group.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

PREFIX_SHARE: Final = 0.2
"""Share of the memory that is free after loading, for the keys and values of earlier texts."""

_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""Per version of control groups: files of limit and use, and the reclaimable part of the use in memory.stat."""


def check_share(share: float) -> None:
    """Raise ``ValueError`` unless ``share`` of the free memory leaves some: at least 0 and below 1."""
    if not 0 <= share < 1:
        raise ValueError(f"prefix_share is {share}: give a number from 0 to below 1")


def free_bytes(device: torch.device) -> int:
    """Return the free bytes of ``device``."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free
    return free_host_bytes()


def free_host_bytes(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the free bytes of this machine or container."""
    return max(0, min([_machine(proc), *_group(proc, mount)]))


def _machine(proc: Path) -> int:
    try:
        counts = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
        return int(counts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        # macOS has no such count: assume that half of the memory is in use.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _group(proc: Path, mount: Path) -> Iterator[int]:
    """Yield what each control group of this process that limits memory leaves."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        version, root = (2, mount) if controllers == "" else (1, mount / "memory")
        limit, use, reclaimable = _FILES[version]
        own = root / path.lstrip("/")
        # In a container, the path may be the host's, and the mount shows the container's own group.
        folder = own if (own / use).exists() else root
        try:
            most = (folder / limit).read_text().strip()
            used = int((folder / use).read_text())
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if most != "max":
            yield int(most) - used + int(counts.get(reclaimable, 0))

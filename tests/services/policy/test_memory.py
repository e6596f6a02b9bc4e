"""The prefix cache takes a share of the memory that the machine or the container still has."""

from __future__ import annotations

from pathlib import Path

import pytest
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.models.free_memory import free_host_bytes

MIB = 1 << 20


def machine(folder: Path, available_mib: int, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a proc file system and the mounted control groups, and return their folders."""
    proc, mount = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 999999999 kB\nMemAvailable: {available_mib * 1024} kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text)
    return proc, mount


def test_a_process_without_a_limit_has_what_the_machine_has_available(tmp_path: Path) -> None:
    files = {"memory.max": "max\n", "memory.current": "5\n", "memory.stat": "inactive_file 1\n"}
    assert free_host_bytes(*machine(tmp_path, 300, "0::/\n", files)) == 300 * MIB


@pytest.mark.parametrize("path", ["/", "/kubepods/pod1/a", "/a"])
def test_a_container_of_version_2_has_what_its_limit_leaves(tmp_path: Path, path: str) -> None:
    own = "a/" if path == "/a" else ""
    files = {
        f"{own}memory.max": f"{200 * MIB}\n",
        f"{own}memory.current": f"{150 * MIB}\n",
        f"{own}memory.stat": f"anon 1\ninactive_file {30 * MIB}\n",
    }
    assert free_host_bytes(*machine(tmp_path, 300, f"0::{path}\n", files)) == 80 * MIB


def test_a_container_of_version_1_has_what_its_limit_leaves(tmp_path: Path) -> None:
    files = {
        "memory/docker/a/memory.limit_in_bytes": f"{200 * MIB}\n",
        "memory/docker/a/memory.usage_in_bytes": f"{150 * MIB}\n",
        "memory/docker/a/memory.stat": f"inactive_file 7\ntotal_inactive_file {10 * MIB}\n",
    }
    groups = "5:cpu:/docker/a\n4:memory:/docker/a\n0::/\n"
    assert free_host_bytes(*machine(tmp_path, 300, groups, files)) == 60 * MIB


def test_a_container_above_its_limit_has_nothing(tmp_path: Path) -> None:
    files = {"memory.max": "10\n", "memory.current": "20\n", "memory.stat": "anon 20\n"}
    assert free_host_bytes(*machine(tmp_path, 300, "0::/\n", files)) == 0


def test_a_system_without_these_files_has_a_part_of_its_memory(tmp_path: Path) -> None:
    assert free_host_bytes(tmp_path, tmp_path) > 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
async def test_the_prefix_cache_has_its_share_of_the_free_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("rstar_policy.transformers_engine.free_bytes", lambda device: 800 * MIB)
    async with TransformersPolicy.load(checkpoint, prefix_share=share) as policy:
        assert policy.prefix_bytes == share * 800 * MIB


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_no_memory_is_refused(checkpoint: Path, share: float) -> None:
    with pytest.raises(ValueError, match="prefix_share is"):
        TransformersPolicy.load(checkpoint, prefix_share=share)

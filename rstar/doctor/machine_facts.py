"""Gathers the facts of this machine. What may hang or crash, a driver or an interpreter, is asked in another process."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rstar.distribution import DISTRIBUTION
from rstar.doctor.finding import Check, check
from rstar.doctor.machine import (
    CoreFacts,
    FolderFacts,
    GpuFacts,
    LimitFacts,
    MemoryFacts,
    PackageFacts,
    PythonFacts,
    SystemFacts,
    judge_cores,
    judge_gpu,
    judge_isolation,
    judge_limits,
    judge_memory,
    judge_packages,
    judge_ports,
    judge_python,
    judge_system,
    judge_temporary_files,
)
from rstar.local.devices import visible_gpus
from rstar.models.free_memory import free_host_bytes
from rstar.rounds.programs import SERVICE_PROGRAMS

PROBE_SECONDS: Final = 120.0
"""For a process that imports torch or starts an executor: some seconds, a minute on a cold disk."""

_GPU_PROBE: Final = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda or "", "devices": [], "bfloat16": False}
try:
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        found["devices"].append([properties.name, properties.total_memory])
    if found["devices"]:
        torch.ones(1, device="cuda").item()
        found["bfloat16"] = torch.cuda.is_bf16_supported(including_emulation=False)
except Exception as error:
    found |= {"devices": [], "error": str(error).splitlines()[0]}
print(json.dumps(found))
"""


def machine_checks() -> list[Check]:
    """Return the checks of this machine."""
    return [
        check("python", python_facts, judge_python),
        check("system", system_facts, judge_system),
        check("cores", core_facts, judge_cores),
        check("memory", lambda: MemoryFacts(free_host_bytes()), judge_memory),
        check("temporary files", lambda: folder_facts(Path(tempfile.gettempdir())), judge_temporary_files),
        check("limits", limit_facts, judge_limits),
        check("gpu", gpu_facts, judge_gpu, PROBE_SECONDS + 10),
        check("packages", package_facts, judge_packages),
        check("isolation", isolation_report, judge_isolation, PROBE_SECONDS + 10),
        check("ports", taken_ports, judge_ports),
    ]


def python_facts() -> PythonFacts:
    """Return the facts of this interpreter."""
    return PythonFacts(sys.version_info[:3], platform.python_implementation(), sys.executable)


def system_facts() -> SystemFacts:
    """Return the operating system and its kernel."""
    return SystemFacts(platform.system(), platform.release(), platform.machine())


def core_facts(group: Path = Path("/sys/fs/cgroup/cpu.max")) -> CoreFacts:
    """Return the cores of this process. ``group``: the file with the quota of a container (control groups, version 2)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = None
    with suppress(OSError, ValueError):
        most, period = group.read_text().split()
        quota = int(most) / int(period) if most != "max" else None
    return CoreFacts(usable, quota, os.getloadavg()[0])


def folder_facts(folder: Path) -> FolderFacts:
    """Return the free space of an existing folder, and whether a file can be written there."""
    fault = ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"rstar doctor")
            file.flush()
    except OSError as error:
        fault = f"no file can be written: {error.strerror}"
    return FolderFacts(str(folder), shutil.disk_usage(folder).free, fault)


def limit_facts(shared: Path = Path("/dev/shm")) -> LimitFacts:
    """Return the soft limits of this process, and the free shared memory."""

    def soft(kind: int) -> int | None:
        limit = resource.getrlimit(kind)[0]
        return None if limit == resource.RLIM_INFINITY else limit

    free = shutil.disk_usage(shared).free if shared.is_dir() else None
    return LimitFacts(soft(resource.RLIMIT_NOFILE), soft(resource.RLIMIT_NPROC), free)


def gpu_facts() -> GpuFacts:
    """Return what the driver shows and what torch can use."""
    visible = len(visible_gpus())
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        return GpuFacts(visible)
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _GPU_PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        found = json.loads(probe.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return GpuFacts(visible, error=f"torch did not answer within {PROBE_SECONDS:g} s")
    except (ValueError, IndexError):
        lines = probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"]
        return GpuFacts(visible, error=f"torch cannot be imported: {lines[-1]}")
    found["devices"] = tuple((name, memory) for name, memory in found["devices"])
    return GpuFacts(visible, driver=_driver() if found["devices"] else "", **found)


def _driver() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")[0]
    return ""


def package_facts(distribution: str = DISTRIBUTION) -> PackageFacts:
    """Return the requirements of ``distribution`` that are installed, and those that are not, by extra."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return PackageFacts("", {}, {})
    installed: dict[str, dict[str, str]] = {}
    missing: dict[str, dict[str, str]] = {}
    for text in metadata.requires(distribution) or ():
        requirement, _, marker = text.partition(";")
        extra_name = re.search(r"extra == ['\"]([\w.-]+)['\"]", marker)
        name = (re.match(r"[\w.-]+", requirement) or [""])[0]
        if name == distribution:
            continue
        part = extra_name[1] if extra_name else ""
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.setdefault(part, {})[name] = ""
            continue
        wrong = _wrong_version(requirement, found)
        (missing if wrong else installed).setdefault(part, {})[name] = wrong or found
    return PackageFacts(version, installed, missing)


def _wrong_version(requirement: str, found: str) -> str:
    """Return 'FOUND, not SPECIFIER' for a version that does not fit. Without ``packaging`` every version fits."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ""
    specifier = Requirement(requirement).specifier
    return "" if specifier.contains(found, prereleases=True) else f"{found}, not {specifier}"


def isolation_report() -> dict[str, Any]:
    """Return the report of the executor's own doctor, by its command: this package imports no service."""
    command = [sys.executable, "-m", "rstar.cli.main", "executor", "doctor", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"the executor did not start within {PROBE_SECONDS:g} s"}
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": f"the executor cannot be checked: {lines[-1].removeprefix('rstar: ')}"}
    return report


def taken_ports() -> dict[str, int]:
    """Return the default port by service, of those where something listens on this machine."""
    taken = {}
    for kind, program in SERVICE_PROGRAMS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", program.port))
            except OSError:
                taken[kind.value] = program.port
    return taken

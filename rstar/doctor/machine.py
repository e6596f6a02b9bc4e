"""Judgements of this machine's facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rstar.distribution import extra
from rstar.doctor.finding import GIB, Finding, Result, size

PYTHON: Final = (3, 11)
LANDLOCK: Final = (5, 13)
"""The first kernel with Landlock, a layer of the executor."""

OPEN_FILES: Final = 4_096
"""A search coordinator holds a connection per call in flight; 1,024, the usual soft limit, is few for several servers."""

PROCESSES: Final = 2_048
SHARED_MEMORY: Final = 64 << 20
"""Docker's default of /dev/shm. Torch's data loaders and NCCL pass tensors through it."""


@dataclass(frozen=True, slots=True)
class PythonFacts:
    """``version``: major, minor, micro; ``where``: the interpreter."""

    version: tuple[int, int, int]
    implementation: str
    where: str


def judge_python(facts: PythonFacts) -> Finding:
    """Compare the version with pyproject.toml's ``requires-python``."""
    text = f"{facts.implementation} {'.'.join(map(str, facts.version))} ({facts.where})"
    if facts.version[:2] < PYTHON:
        return Finding("python", "failed", f"{text} is too old", "install Python 3.11 or later")
    if facts.implementation != "CPython":
        return Finding(
            "python", "warning", f"{text} is not CPython", "use CPython: torch and grpcio have no other wheels"
        )
    return Finding("python", "ok", text)


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """As ``platform.uname`` gives them."""

    system: str
    release: str
    machine: str


def judge_system(facts: SystemFacts) -> Finding:
    """Linux runs everything; elsewhere programs of the executor are not contained."""
    text = f"{facts.system} {facts.release} on {facts.machine}"
    if facts.system != "Linux":
        result: Result = "warning" if facts.system == "Darwin" else "failed"
        remedy = "run the executor on Linux: a container, a virtual machine or WSL"
        return Finding("system", result, f"{text}: programs are contained on Linux only", remedy)
    if _kernel(facts.release) < LANDLOCK:
        return Finding("system", "warning", f"{text}: the kernel has no Landlock", "use Linux 5.13 or later")
    return Finding("system", "ok", text)


def _kernel(release: str) -> tuple[int, ...]:
    numbers = release.partition("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """``usable``: cores of this process's affinity; ``quota``: cores of its control group, None: all; ``load``: of 1 min."""

    usable: int
    quota: float | None
    load: float


def judge_cores(facts: CoreFacts) -> Finding:
    """Policy, PPM, executor and search run at the same time."""
    cores = min(facts.usable, facts.quota) if facts.quota is not None else facts.usable
    text = f"{cores:g} cores, load {facts.load:.1f}"
    if cores < 2:
        return Finding("cores", "warning", text, "use 2 cores or more: the servers of a round run side by side")
    if facts.load > 2 * cores:
        return Finding("cores", "warning", f"{text}: other work keeps them busy", "wait, or expect slower rounds")
    return Finding("cores", "ok", text)


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Bytes."""

    free: int


def judge_memory(facts: MemoryFacts) -> Finding:
    """Enough for the smallest example; a round's own needs are the check of its file."""
    text = f"{size(facts.free)} of memory are free for this process"
    if facts.free < GIB:
        return Finding("memory", "failed", text, "free memory, or raise the container's limit, to 1 GiB or more")
    if facts.free < 4 * GIB:
        return Finding("memory", "warning", text, "4 GiB or more are needed for a real model; only tiny ones fit here")
    return Finding("memory", "ok", text)


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder for files. ``fault``: why no file can be made in it, '' when one can; ``free``: bytes."""

    folder: str
    free: int
    fault: str = ""


def judge_temporary_files(facts: FolderFacts) -> Finding:
    """Shards of trees and tables are made there before they are stored."""
    name, text = "temporary files", f"{facts.folder} has {size(facts.free)} free"
    if facts.fault:
        return Finding(name, "failed", f"{facts.folder}: {facts.fault}", "set TMPDIR to a folder that can be written")
    if facts.free < GIB:
        return Finding(name, "warning", text, "free some space, or set TMPDIR to a folder with 1 GiB or more")
    return Finding(name, "ok", text)


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """Soft limits of this process, None: none; ``shared_memory``: bytes free in /dev/shm, None where there is none."""

    open_files: int | None
    processes: int | None
    shared_memory: int | None


def judge_limits(facts: LimitFacts) -> Finding:
    """Limits of a shell or a container that end a round in the middle."""
    faults: dict[str, str] = {}
    if facts.open_files is not None and facts.open_files < OPEN_FILES:
        faults[f"{facts.open_files} open files"] = f"raise them with 'ulimit -n {OPEN_FILES}'"
    if facts.processes is not None and facts.processes < PROCESSES:
        faults[f"{facts.processes} processes"] = f"raise them with 'ulimit -u {PROCESSES}'"
    if facts.shared_memory is not None and facts.shared_memory < SHARED_MEMORY:
        faults[f"{size(facts.shared_memory)} in /dev/shm"] = "give the container more shared memory (--shm-size=1g)"
    if faults:
        return Finding("limits", "warning", f"few: {', '.join(faults)}", "; ".join(faults.values()))
    shown = ["open files and processes suffice"]
    shown += [f"{size(facts.shared_memory)} free in /dev/shm"] if facts.shared_memory is not None else []
    return Finding("limits", "ok", ", ".join(shown))


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """``visible``: GPUs that the driver shows; ``torch``: its version, '' without torch; ``error``: of the probe.

    ``cuda``: the version that torch was built for, '' for a CPU build; ``devices``: names and memory that torch sees.
    """

    visible: int
    torch: str = ""
    cuda: str = ""
    devices: tuple[tuple[str, int], ...] = ()
    bfloat16: bool = False
    driver: str = ""
    error: str = ""


def judge_gpu(facts: GpuFacts) -> Finding:
    """Fail where the driver shows a GPU that torch cannot use."""
    if not facts.torch:
        reason = facts.error or "torch is not installed"
        return Finding("gpu", "warning" if facts.visible else "skipped", reason, extra("jobs"))
    if not facts.devices:
        if not facts.visible:
            return Finding("gpu", "ok", f"no GPU; torch {facts.torch} computes on the CPU")
        why = facts.error or (f"torch {facts.torch} is a CPU build" if not facts.cuda else "torch cannot use it")
        remedy = (
            "install torch for CUDA from its own package index"
            if not facts.cuda
            else f"install a driver that supports CUDA {facts.cuda}, and check the container's GPU runtime"
        )
        return Finding("gpu", "failed", f"{facts.visible} GPUs are there, but {why}", remedy)
    names = ", ".join(f"{name} ({size(memory)})" for name, memory in facts.devices)
    text = f"{names}; torch {facts.torch}, CUDA {facts.cuda}, driver {facts.driver or 'unknown'}"
    if not facts.bfloat16:
        remedy = "use precision: float32 and dtype: float16, or an Ampere GPU or later"
        return Finding("gpu", "warning", f"{text}; no bfloat16", remedy)
    return Finding("gpu", "ok", f"{text}; bfloat16")


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """Requirements by extra ('' the distribution itself): the name, and its installed version or why it does not do.

    ``version``: of this distribution, '' where it is not installed.
    """

    version: str
    installed: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, Mapping[str, str]]


_PARTS: Final = ("policy", "ppm", "executor", "jobs", "cluster", "operator", "vllm")


def judge_packages(facts: PackageFacts) -> Finding:
    """Warn about extras in wrong versions: they would fail later, in the middle of a round."""
    if not facts.version:
        return Finding("packages", "skipped", "the distribution is not installed here, so its extras are unknown")
    if core := facts.missing.get(""):
        return Finding("packages", "failed", f"missing: {_listed(core)}", "reinstall with pip install rstar-math")
    whole = [name for name in _PARTS if name in facts.installed and not facts.missing.get(name)]
    # vLLM is one package on top of the extras for models, whose lack says nothing.
    partial = {
        name: facts.missing[name]
        for name in _PARTS
        if facts.missing.get(name) and facts.installed.get(name) and name != "vllm"
    }
    outdated = {name: text for missing in partial.values() for name, text in missing.items() if text}
    text = (
        f"rstar-math {facts.version} with {', '.join(whole) or 'no extra'}; {'vLLM' if 'vllm' in whole else 'no vLLM'}"
    )
    if outdated:
        remedy = f"install them again: {extra(next(iter(partial)))}"
        return Finding("packages", "warning", f"{text}; wrong versions: {_listed(outdated)}", remedy)
    if not {"policy", "jobs"} & set(whole):
        return Finding("packages", "warning", f"{text}: no models can run here", f"for rounds here: {extra('jobs')}")
    return Finding("packages", "ok", text)


def _listed(missing: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}".strip() for name, text in sorted(missing.items()))


def judge_isolation(report: Mapping[str, Any]) -> Finding:
    """``report``: what ``rstar executor doctor --json`` printed, or ``{"error": SENTENCE}``."""
    if error := report.get("error"):
        return Finding(
            "isolation", "warning", str(error), f"install the executor where programs run: {extra('executor')}"
        )
    layers: Sequence[Mapping[str, Any]] = report["layers"]
    lacking = [layer for layer in layers if not layer["in_force"]]
    remedies = "; ".join(f"{layer['name']}: {layer['remedy']}" for layer in lacking if layer["remedy"])
    whole = "run 'rstar executor doctor' for the whole report"
    if report["missing"]:
        return Finding("isolation", "failed", f"programs are not contained: {report['missing']}", remedies or whole)
    failed = next((one for one in report["checks"] if not one["works"]), None)
    if failed is not None:
        return Finding("isolation", "failed", str(failed["detail"]), whole)
    if lacking:
        names = ", ".join(str(layer["name"]) for layer in lacking)
        return Finding("isolation", "ok", f"programs are contained, without the optional {names}", remedies)
    return Finding("isolation", "ok", f"programs are contained by {', '.join(str(one['name']) for one in layers)}")


def judge_ports(taken: Mapping[str, int]) -> Finding:
    """``taken``: the port by service, of those whose default port is in use."""
    if taken:
        text = ", ".join(f"{port} ({service})" for service, port in taken.items())
        return Finding(
            "ports", "warning", f"in use: {text}", "start those services with another --port; rounds choose free ones"
        )
    return Finding("ports", "ok", "the services' default ports are free")

"""Reads the hostile programs of ``corpus``. Run them only in an executor. Comments at the head state what must hold:

# What the program tries.
# expect: timeout memory             one or several statuses that are right
# stdout: refused                    its exact output, one such comment per line; without any, every output is right
# limits: seconds=0.5 memory_mib=96  limits that differ from the usual ones
# opens with: maps                   the file of ``openings`` whose text is put before the program
# machine: x86_64                    the only kind of processor for which the program is meant
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from tests.support.paths import EXECUTOR_TESTS

CORPUS = EXECUTOR_TESTS / "corpus"
OPENINGS = EXECUTOR_TESTS / "openings"
CATEGORIES = ("processes", "time", "memory", "output", "exits", "files", "network", "kernel", "state")
_USUAL = {"seconds": 10.0, "memory_mib": 512, "output_bytes": 65_536, "file_mib": 16}


@dataclass(frozen=True)
class HostileProgram:
    """One program and its right results; ``stdout`` None: any output."""

    name: str
    text: str
    expected: frozenset[ExecutionStatus]
    stdout: str | None
    limits: ExecutionLimits
    machine: str


def load(path: Path) -> HostileProgram:
    """Read one program. Raises ``ValueError`` where its head does not state the expected statuses."""
    text = path.read_text(encoding="utf-8")
    expected: list[ExecutionStatus] = []
    stdout: list[str] = []
    limits: dict[str, float] = dict(_USUAL)
    machine = ""
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        key, colon, value = line[2:].partition(":")
        if colon and key == "expect":
            expected = [ExecutionStatus(word) for word in value.split()]
        elif colon and key == "stdout":
            stdout.append(value.removeprefix(" "))
        elif colon and key == "opens with":
            text = (OPENINGS / f"{value.strip()}.py").read_text(encoding="utf-8") + text
        elif colon and key == "machine":
            machine = value.strip()
        elif colon and key == "limits":
            for pair in value.split():
                name, _, number = pair.partition("=")
                if name not in limits:
                    raise ValueError(f"{path}: no limit is called {name}")
                limits[name] = float(number)
    if not expected or ExecutionStatus.INTERNAL in expected:
        raise ValueError(f"{path}: '# expect:' must name statuses other than internal")
    exact = None if not stdout else "" if stdout == [""] else "".join(f"{line}\n" for line in stdout)
    numbers = {name: int(limits[name]) for name in ("memory_mib", "output_bytes", "file_mib")}
    return HostileProgram(
        f"{path.parent.name}/{path.stem}",
        text,
        frozenset(expected),
        exact,
        ExecutionLimits(limits["seconds"], **numbers),
        machine,
    )


def programs(category: str) -> list[HostileProgram]:
    """Return the programs of ``category`` for this machine."""
    found = [load(path) for path in sorted((CORPUS / category).glob("*.py"))]
    return [program for program in found if program.machine in ("", platform.machine())]

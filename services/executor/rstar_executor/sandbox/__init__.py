"""The layers between programs and the machine. This file holds the executor's report about them, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Layer(NamedTuple):
    """One layer: whether it is in force, whether the executor requires it, and what it protects (``covers``).

    ``detail`` says how it is in force, or why it is not.
    """

    name: str
    in_force: bool
    required: bool
    detail: str
    covers: str


COVERS = {
    "identity": "root's powers, capabilities, set-user-ID programs, the service's memory",
    "namespaces": "other processes, networks, IPC objects; nothing survives its program",
    "files": "the names and contents of all files but Python's; filling disks",
    "landlock": "reading and writing outside the programs' directory, signals to others, abstract sockets",
    "seccomp": "sockets, executing files, debugging, new namespaces, kernel interfaces that no program needs",
    "limits": "CPU time, memory, file size, descriptors and processes of a program",
    "cgroup": "memory and processes of all programs of a slot together",
}
REQUIRED = frozenset({"identity", "landlock", "seccomp", "limits"})


def layer(name: str, in_force: bool, detail: str) -> Layer:
    """Return the layer ``name``."""
    return Layer(name, in_force, name in REQUIRED, detail, COVERS[name])


def missing(layers: Sequence[Layer]) -> str:
    """Return one sentence that names the required layers not in force; empty when there are none."""
    absent = [f"{layer.name} ({layer.detail})" for layer in layers if layer.required and not layer.in_force]
    return f"programs would not be contained here: {'; '.join(absent)}" if absent else ""

"""The Debian packages that a node and the build of images need, and which of them the machine lacks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from rstar_testbed.errors import TestbedError

NODE: Final = {
    "cc": "build-essential",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
    "runc": "runc",
}
"""Programs of a node, and the package of each."""

IMAGES: Final = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""Programs that build images, and the package of each."""

CNI_PLUGINS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CNI_PACKAGE: Final = "containernetworking-plugins"


def missing_packages() -> list[str]:
    """Return the packages for a node and for images that the machine lacks, sorted."""
    return sorted(_missing({**NODE, **IMAGES}) | (set() if _plugins() else {_CNI_PACKAGE}))


def check_packages() -> Path:
    """Return the folder of the CNI plugins. Raises :class:`TestbedError` naming the packages that a node lacks."""
    plugins = _plugins()
    missing = _missing(NODE) | (set() if plugins else {_CNI_PACKAGE})
    if plugins is None or missing:
        raise TestbedError(f"A node needs packages that are not installed: apt-get install {' '.join(sorted(missing))}")
    return plugins


def _missing(programs: dict[str, str]) -> set[str]:
    return {package for program, package in programs.items() if shutil.which(program) is None}


def _plugins() -> Path | None:
    return next((folder for folder in CNI_PLUGINS if (folder / "ptp").exists()), None)

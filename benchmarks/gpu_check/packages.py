"""The small packages that the checks need and a machine with torch and transformers may lack.

Such a machine may have no network, so ``--packages-for 3.12`` on another machine puts them into a folder of the checkout,
for that Python on Linux x86_64, with the versions of ``requirements.lock``. The folder travels with the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path("out/gpu-check-packages")
NAMES: Final = (
    "structlog",
    "prometheus-client",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "accelerate",
    "psutil",
)
_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def add_paths() -> None:
    """Let this process and its children import the checkout, which need not be installed, and the folder's packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sources = [str(ROOT / folder) for folder in project["tool"]["hatch"]["build"]["dev-mode-dirs"]]
    sys.path[:] = [*sources, *(path for path in sys.path if path not in sources), str(ROOT / FOLDER)]
    # What multiprocessing preloads for its children, and what they start, sees only the environment.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sources, os.environ.get("PYTHONPATH"), sys.path[-1]]))


def make_packages(python: str) -> int:
    """Fill the folder with pip; return pip's exit code."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--upgrade", "--target", str(ROOT / FOLDER), "--python-version", python, "--implementation", "cp"]
    command += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    command += [*_locked(ROOT / "requirements.lock")]
    return subprocess.run(command, check=False).returncode


def _locked(lock: Path) -> list[str]:
    """Return ``NAME==VERSION`` of each package, as the lock has it."""
    lines = [line.split(";")[0].strip() for line in lock.read_text().splitlines()]
    return [line for line in lines if line.partition("==")[0] in NAMES]

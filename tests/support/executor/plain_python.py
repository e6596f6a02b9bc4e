"""Runs programs in plain CPython: ``python -m tests.support.executor.plain_python``, for comparison with the executor.

Reads one JSON object of names and programs, prints one of names and ``[succeeded, stdout]``. Each program runs as
``python program.py`` does, in an empty folder without input. A program that imports heavy modules runs in a fork of this
process, which has imported them: a cold interpreter would take seconds for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

_HEAVY = ("numpy", "sympy", "scipy", "mpmath", "networkx", "__import__")
_MODULES = (*("numpy", "sympy", "scipy.stats", "scipy.optimize", "scipy.integrate", "scipy.signal", "networkx"),)


def cold(folder: Path) -> tuple[bool, str]:
    """Run ``program.py`` of ``folder`` in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode == 0, done.stdout.decode()


def forked(folder: Path) -> tuple[bool, str]:
    """Run ``program.py`` of ``folder`` in a fork of this process."""
    output = folder.with_suffix(".out")
    child = os.fork()
    if child == 0:
        _become_program(folder, output)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code == 0, output.read_text()


def _become_program(folder: Path, output: Path) -> NoReturn:
    os.chdir(folder)
    for number, path in enumerate((os.devnull, output, os.devnull)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.stdin, sys.argv = open(0), ["program.py"]  # noqa: SIM115 - it stays open as long as the program runs
    runpy.run_path("program.py", run_name="__main__")
    sys.exit()


def main() -> None:
    """Run every program."""
    programs: dict[str, str] = json.load(sys.stdin)
    for module in _MODULES:
        with contextlib.suppress(ImportError):
            __import__(module)
    results = {}
    # No TemporaryDirectory: a forked program ends by SystemExit, and would remove the folder on its way.
    top = Path(tempfile.mkdtemp())
    for number, (name, text) in enumerate(programs.items()):
        folder = top / str(number)
        folder.mkdir()
        (folder / "program.py").write_text(text + "\n", encoding="utf-8")
        heavy = any(module in text for module in _HEAVY)
        results[name] = forked(folder) if heavy else cold(folder)
    shutil.rmtree(top)
    print(json.dumps(results))


if __name__ == "__main__":
    main()

"""Checks at the start of an executor that no library of its zygotes starts threads, although some zygotes load later.

A process of its own imports the libraries under the limits of a zygote, once for all executors of this process.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

NATIVE: Final = ("numpy", "scipy.linalg", "gmpy2", "flint")
"""The modules with native code that zygotes import: by themselves, or through sympy, which is Python alone."""

LIBRARIES: Final = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
"""Some interpreters do not find their own library without it; a zygote clears its environment."""

_SECONDS: Final = 60.0
_PACKAGE = str(Path(__file__).parents[2])
_LAUNCH = "import sys; sys.path.insert(0, sys.argv[1]); from rstar_executor.interpreter.one_thread import main; main()"


@functools.cache
def threads_started(modules: tuple[str, ...]) -> str:
    """Return one sentence that names the module whose import starts threads or fails; empty when all can be used."""
    command = [sys.executable, "-P", "-s", "-S", "-B", "-c", _LAUNCH, _PACKAGE, *module_folders(), "--", *modules]
    try:
        done = subprocess.run(
            command, env=LIBRARIES, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = (
            f"ends with code {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
        )
        return f"a process that imports {', '.join(modules)} {reason}; standard error has its reason"
    return done.stdout.decode()


def module_folders() -> list[str]:
    """Return the folders in which programs find modules."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]

"""Keeps a zygote to one thread: a pool of threads that a library started before a fork never answers after it.

A library reads its limit when it is loaded: OpenBLAS, MKL, OpenMP, BLIS and Accelerate from the C environment, numexpr and
numba from ``os.environ``. So the limits are set before the first import, and every program inherits them. The number
theory behind sympy (GMP, FLINT) starts no threads unless a program asks for them. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from typing import Final

_THREADS = (
    *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS", "NUMBA_NUM_THREADS"),
)
ENVIRONMENT: Final = {**dict.fromkeys(_THREADS, "1"), "JOBLIB_MULTIPROCESSING": "0"}
"""The whole environment of a program. One thread per library: as many programs run at once as there are cores. joblib
works in one process: it would spawn others, which programs cannot."""

_ARENA_MAX = -8


class ThreadsStartedError(Exception):
    """A module started threads when it was imported; the text names it."""


def limit_libraries() -> None:
    """Replace the environment by ``ENVIRONMENT``, and have all threads of a program share one heap of the C library.

    With heaps of their own, eight threads would use up the address space of a program: each reserves 64 MiB.
    ``os.cpu_count`` is 1, by which pools of processes and threads choose their size.
    """
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_ARENA_MAX, 1)
    os.cpu_count = _one_core


def _one_core() -> int:
    return 1


def import_each(modules: Iterable[str], proc: int) -> None:
    """Import ``modules``; those that are not installed are left out.

    ``proc`` is a descriptor of /proc. Raises ``ThreadsStartedError``.
    """
    for module in modules:
        try:
            __import__(module)
        except ImportError:  # a program that imports it gets the error
            continue
        check(proc, f"importing {module}")


def check(proc: int, after: str) -> None:
    """Raise ``ThreadsStartedError`` when this process has more than one thread; ``after`` says what it did last."""
    folder = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        threads = len(os.listdir(folder))
    finally:
        os.close(folder)
    if threads > 1:
        raise ThreadsStartedError(
            f"{after} starts {threads - 1} thread(s), for which a fork would wait for ever: install a build of the "
            "library that obeys OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and their like, or remove it"
        )


def main() -> None:
    """Import modules as a zygote does; print one sentence when one starts threads.

    ``sys.argv``: this package's folder, the folders of modules, ``--``, and the modules.
    """
    _, package, *arguments = sys.argv
    sys.path.remove(package)
    separator = arguments.index("--")
    sys.path += arguments[:separator]
    limit_libraries()
    try:
        import_each(arguments[separator + 1 :], os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))
    except ThreadsStartedError as error:
        os.write(1, str(error).encode())
    # Threads that a library started must not delay the end.
    os._exit(0)

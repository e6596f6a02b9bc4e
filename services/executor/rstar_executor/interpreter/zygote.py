"""Turns a fork of the warden into a zygote: it imports common modules, sandboxes itself and waits to be forked.

Everything that the programs of a zygote share is done here once: imports in one thread, first uses that build lasting
tables, a frozen heap, huge pages, limits, Landlock, seccomp. Standard library only: this runs inside the zygote.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from rstar_executor.interpreter import child_processes, one_thread, runner
from rstar_executor.interpreter.loop import serve_forks
from rstar_executor.interpreter.shared_memory import REASON_BYTES, SharedMemory
from rstar_executor.sandbox import identity, landlock, limits, syscalls

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_HUGE: Final = 2 << 20
_LARGE_ALLOCATION: Final = 100_000
"""Bytes: more than any free block of the heap has, less than the size from which the C library uses mmap."""
_OFTEN: Final = 20
"""Runs after which Python has specialised a function's bytecode, which writes to its pages."""
_MOST_DESCRIPTORS: Final = 65_536

WARM_UP: Final = """
import math
class Point:
    def __init__(self, x): self.x = x
def area(p, q=2): return sum(i * p.x for i in range(q))
try:
    raise ValueError(f"{area(Point(3)):.2f} {[n ** 2 for n in (1, 2)]!r} {dict(a=1)}")
except ValueError as error:
    print(str(error).split(), math.sqrt(2), sorted({1, 2}), 2 ** 100, 1 / 3)
"""
"""Run in the zygote, because the first compilation of a process spends milliseconds on building tables."""

WARM_UP_HEAVY: Final = """
import numpy as np
import sympy as sp
x = sp.symbols('x')
print(sp.solve(x ** 2 - 4), sp.expand((x + 1) ** 3), sp.simplify(sp.Rational(1, 3) + 1), np.arange(6).reshape(2, 3).sum())
print(sp.factor(x ** 2 - 1), sp.diff(x ** 3, x), sp.integrate(x, x), sp.sqrt(8), sp.nsimplify(0.5), sp.factorint(360))
for k in range(32):
    y = sp.Symbol('y')
    print(x + k, k * x - y, x ** 2 - k * x, sp.Rational(k, 7), sp.Integer(k) ** 2, sp.expand((x + k) * (x - y)), sp.Eq(x, k))
    print((x + k * y).subs(x, 2), sp.simplify(x + k * x), sp.sqrt(k), float(sp.sqrt(k)), sp.gcd(k, 12), sp.isprime(k))
"""


class ZygoteSettings(NamedTuple):
    """Modules that a zygote imports, the folders that its programs may read and write, and the layers around it.

    ``counted_apart``: its user has no other processes; ``contained``: it has its own namespaces and file system.
    """

    modules: Sequence[str]
    readable: Sequence[str]
    writable: Sequence[str]
    landlock_abi: int
    counted_apart: bool
    contained: bool


def become(settings: ZygoteSettings, memory: SharedMemory, channel: socket.socket, proc: int) -> NoReturn:
    """Turn this fork of the warden into a zygote; send its seccomp listener over ``channel`` when it is ready.

    When it cannot, send one sentence that says why, and exit.
    """
    try:
        _close_all_but({0, 1, 2, channel.fileno(), proc})
        one_thread.limit_libraries()
        one_thread.import_each(settings.modules, proc)
        child_processes.install()
        _warm_up(settings.modules)
        one_thread.check(proc, f"using {', '.join(settings.modules)}")
        sys.setrecursionlimit(1000)
        # An answer may have any number of digits. What is slow to convert ends by the time limit.
        sys.set_int_max_str_digits(0)
        gc.collect()
        gc.disable()
        gc.freeze()
        _collapse(proc)
        os.close(proc)
        limits.enter_interpreter(settings.counted_apart)
        scope_signals = _signal_scope(settings.landlock_abi)
        landlock.restrict(settings.readable, settings.writable, settings.landlock_abi)
        listener = syscalls.restrict(
            signals_kept_in=settings.contained or settings.landlock_abi >= landlock.SIGNALS_ABI,
            files_apart=settings.contained,
        )
        # Building the filter has fragmented the heap.
        _settle_heap()
        # The warden installs the standard output and error of every program.
        channel.sendmsg([b"ready"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
        os.close(listener)
        channel.close()
        os.dup2(0, 2)
    except BaseException as error:
        started = isinstance(error, one_thread.ThreadsStartedError)
        with contextlib.suppress(OSError):
            channel.send((str(error) if started else f"a zygote cannot be made: {error!r}").encode()[:REASON_BYTES])
        os._exit(1)
    serve_forks(memory, scope_signals, _nothing if settings.contained else _end_with_warden)


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for descriptor in (*sorted(kept), _MOST_DESCRIPTORS):
        if first < descriptor:  # an empty range at 0 would close everything
            os.closerange(first, descriptor)
        first = descriptor + 1


def _warm_up(modules: Sequence[str]) -> None:
    for text in [WARM_UP, "1 / 0\n", "1 +\n"] * _OFTEN + [WARM_UP_HEAVY] * (2 if "sympy" in modules else 0):
        runner.run_steps([text], 0, runner.fresh_main())
    # Seeded last: the warm-up must not show. Programs inherit these states unchanged.
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "sympy" in sys.modules:
        __import__("sympy.core.random")
        sys.modules["sympy.core.random"].seed(0)
        random.seed(0)
    del sys.modules["__main__"]


def _signal_scope(abi: int) -> Callable[[], None]:
    """Return a function by which a fork of the zygote limits its signals to itself and its descendants."""
    if abi < landlock.SIGNALS_ABI:
        return _nothing
    scopes = landlock.scopes()
    enter = landlock.entering(scopes)

    def scope_signals() -> None:
        if (result := enter()) != 0:
            raise OSError(-result, "the kernel refuses a Landlock scope for signals")
        os.close(scopes)

    return scope_signals


def _nothing() -> None:
    """Do nothing: when a warden that is the init of its namespace ends, the kernel ends all processes in it."""


def _end_with_warden() -> None:
    identity.end_with_parent(signal.SIGKILL)


def _settle_heap() -> None:
    """Have the C library merge and sort its free blocks; otherwise a large allocation does so in every fork."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
        libc.malloc.restype = ctypes.c_void_p
        libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(_LARGE_ALLOCATION))))


def _collapse(proc: int) -> None:
    """Have the kernel put the heap into huge pages: a fork then copies a few page-table entries instead of thousands."""
    libc = ctypes.CDLL(None)
    with open(os.open("self/maps", os.O_RDONLY, dir_fd=proc)) as maps:
        regions = [line.split() for line in maps]
    for fields in regions:
        if fields[1] != "rw-p" or fields[4] != "0" or fields[-1] == "[stack]":
            continue
        start, end = (int(side, 16) for side in fields[0].split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if start < end:
            for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)

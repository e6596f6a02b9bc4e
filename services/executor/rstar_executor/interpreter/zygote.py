"""Making a root: a fork of the warden imports what programs commonly want, shuts itself in for good, and waits.

What every program of a root shares is done here once: imports, first uses that build lasting tables, a frozen heap, huge
pages, limits, Landlock, seccomp. Standard library only: this runs inside the interpreter. It refuses to run programs.
"""

from __future__ import annotations

import array
import ctypes
import gc
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from rstar_executor.interpreter import runner
from rstar_executor.interpreter.loop import live
from rstar_executor.interpreter.shared_memory import Area
from rstar_executor.sandbox import identity, landlock, limits, syscalls

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_HUGE: Final = 2 << 20
_LARGE_ALLOCATION: Final = 100_000
"""Bytes: more than any hole has, less than what the C library maps apart."""
_OFTEN: Final = 20
"""Runs after which Python has fitted a function's code to its use, which writes to it."""
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
"""Used once in the root, as the first compilation of a process builds tables for milliseconds."""

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


class Plan(NamedTuple):
    """What a root is made of: modules to import, and the folders that its programs may read and write.

    ``counted_apart``: its user has no processes outside; ``contained``: it is in namespaces, with files of its own.
    """

    modules: Sequence[str]
    readable: Sequence[str]
    writable: Sequence[str]
    landlock_abi: int
    counted_apart: bool
    contained: bool


def become(plan: Plan, area: Area, voice: socket.socket, proc: int) -> NoReturn:
    """Turn this fork of the warden into a root; send the listener over ``voice`` when it is ready."""
    try:
        _close_all_but({0, 1, 2, voice.fileno(), proc})
        _load(plan.modules)
        _warm_up(heavy="sympy" in plan.modules)
        sys.setrecursionlimit(1000)
        gc.collect()
        gc.disable()
        gc.freeze()
        _collapse(proc)
        os.close(proc)
        limits.enter_interpreter(plan.counted_apart)
        birth = _birth(plan.landlock_abi)
        landlock.restrict(plan.readable, plan.writable, plan.landlock_abi)
        listener = syscalls.restrict(
            signals_kept_in=plan.contained or plan.landlock_abi >= landlock.SIGNALS_ABI, files_apart=plan.contained
        )
        # Building the filter has left holes.
        _settle_heap()
        # Standard output is replaced by the warden for every program.
        voice.sendmsg([b"ready"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
        os.close(listener)
        voice.close()
        os.dup2(0, 2)
    except BaseException as error:
        os.write(2, f"rstar executor: an interpreter cannot be made: {error!r}\n".encode())
        os._exit(1)
    live(area, birth, _nothing if plan.contained else _end_with_warden)


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for descriptor in (*sorted(kept), _MOST_DESCRIPTORS):
        if first < descriptor:  # an empty range at 0 would close everything
            os.closerange(first, descriptor)
        first = descriptor + 1


def _load(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            __import__(module)
        except ImportError:  # the program that wants it will say so
            continue


def _warm_up(heavy: bool) -> None:
    for text in [WARM_UP, "1 / 0\n", "1 +\n"] * _OFTEN + [WARM_UP_HEAVY] * (2 if heavy else 0):
        runner.run_steps([text], 0, runner.fresh_main())
    # Seeded last: what is warm must not show. Programs inherit these states as they are.
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "sympy" in sys.modules:
        __import__("sympy.core.random")
        sys.modules["sympy.core.random"].seed(0)
        random.seed(0)
    del sys.modules["__main__"]


def _birth(abi: int) -> Callable[[], None]:
    """Return what each fork of a root does first: keep its signals to itself and to what it starts."""
    if abi < landlock.SIGNALS_ABI:
        return _nothing
    scopes = landlock.scopes()
    enter = landlock.entering(scopes)

    def birth() -> None:
        if (result := enter()) != 0:
            raise OSError(-result, "the scopes of signals are refused")
        os.close(scopes)

    return birth


def _nothing() -> None:
    """Do nothing: the end of a warden that is the init of its namespace ends all."""


def _end_with_warden() -> None:
    identity.end_with_parent(signal.SIGKILL)


def _settle_heap() -> None:
    """Have the C library merge and sort what is free in its heap: else large allocations do, in every fork anew."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
        libc.malloc.restype = ctypes.c_void_p
        libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(_LARGE_ALLOCATION))))


def _collapse(proc: int) -> None:
    """Have the kernel put the heap into huge pages: a fork then copies a few entries in place of thousands."""
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

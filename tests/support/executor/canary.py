"""Programs that detect changes by an earlier program: their output must always be the same bytes.

They print what defines a fresh interpreter: state, random numbers, limits, files, descriptors, processes, and whether the
memory shared with the warden still holds text of the corpus.
"""

from __future__ import annotations

from typing import Final

LIGHT: Final = r"""
import builtins, decimal, gc, json, locale, math, mmap, os, random, resource, signal, statistics, sys, threading, time, warnings

def left_in_shared_memory():
    waiting, seen, frame = [], set(), sys._getframe()
    while frame is not None:
        waiting += [*frame.f_locals.values()]
        frame = frame.f_back
    for _ in range(200):
        if not waiting:
            break
        value = waiting.pop(0)
        if isinstance(value, mmap.mmap) and value.find(b"RSTAR-CORPUS-" + b"LEFT", 0) >= 0:
            return True
        if id(value) not in seen and type(value).__module__.startswith("rstar_executor"):
            seen.add(id(value))
            waiting += gc.get_referents(value)
        if id(value) not in seen and callable(value) and hasattr(value, "__self__"):
            seen.add(id(value))
            waiting.append(value.__self__)
        if id(value) not in seen and isinstance(value, dict):
            seen.add(id(value))
            waiting += [item for item in value.values() if isinstance(item, mmap.mmap)]
    return False

print(left_in_shared_memory())
print(random.random(), random.getrandbits(64), hash("a"), {"a", "b", "c"})
print(math.pi, math.sqrt(2), statistics.mean([1, 2, 4]), 14 + 15, json.dumps({"a": [1.5, None]}))
print(decimal.getcontext(), decimal.DefaultContext.prec, decimal.Decimal(1) / 7)
print(sorted(vars(builtins)), [type(vars(builtins)[name]).__name__ for name in sorted(vars(builtins))])
print(os.listdir(), oct(os.stat(".").st_mode), sorted(os.environ), repr(sys.stdin.read()))
print(warnings.filters, locale.setlocale(locale.LC_ALL), time.tzname, sys.flags, sys.argv)
print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits(), gc.isenabled(), gc.get_threshold())
print(sys.gettrace(), sys.getprofile(), sys.excepthook is sys.__excepthook__, len(sys.meta_path), len(sys.path))
print(sorted(sys.modules), __name__, sorted(globals()))
print([signal.getsignal(number) for number in signal.valid_signals()], signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL))
print(oct(os.umask(0)), threading.active_count(), os.getsid(0) == os.getpid(), os.getpriority(os.PRIO_PROCESS, 0))
print([resource.getrlimit(which) for which in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)])

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True

print([fd for fd in range(64) if is_open(fd)])
items = []
items.append("x".join(["a", "b"]))
print(items, "ran" + "dom", sys.intern("random"), "{:.3f} {!r}".format(1 / 3, "\ud800".encode("utf-8", "replace")))
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no children")
pid = os.fork()
if pid == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
started = time.monotonic()
time.sleep(0.001)
print(time.monotonic() > started)
with open("file", "w") as file:
    file.write("x")
print(os.listdir())
try:
    import this_module_does_not_exist
except ImportError as error:
    print(error)
"""

HEAVY: Final = r"""
import numpy as np
import sympy as sp
x = sp.symbols("x")
print(np.random.rand(3), np.geterr(), sorted(np.get_printoptions().items(), key=str), np.pi, np.sum(np.array([1, 2])))
print(sp.expand((x + 1) ** 2), sp.solve(x**2 - 4), sp.S.Half, sp.Integer(2) + 3, sp.simplify(sp.sin(x) ** 2 + sp.cos(x) ** 2))
print(sp.randprime(10, 10**6), sp.factorint(360), sp.nsimplify(0.5), sp.Integer(666))
"""

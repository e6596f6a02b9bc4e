"""A run from a snapshot and a run from the start give the same result, whatever the steps did to the interpreter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server import metrics
from rstar_executor.server.affinity import Affinity
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.server.programs import PRELOADED, Kind
from rstar_executor.warden.snapshots import Snapshot, Snapshots, digests, resumable, units

from rstar.interfaces import Execution
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS
from tests.support.executor.processes import inside
from tests.support.states import HEAVY, START, after

QUICK = replace(LIMITS, seconds=2, output_bytes=2000, file_mib=1)

STEPS = (
    "import random\nx = random.random()\nprint(x)",
    "import random\nprint(random.randint(1, 10**9), random.getstate()[1][:3])",
    "import time\nt = time.time()\nprint(t > 0)",
    "import datetime\nprint(type(datetime.date.today()).__name__)",
    "f = open('notes', 'w')\nf.write('a' * 10)\nprint('opened')",
    "open('left', 'w').write('x')\nprint('left')",
    "import os\nprint(sorted(os.listdir()), os.path.exists('left'))",
    "try:\n    f.write('more')\n    print(f.tell())\nexcept NameError:\n    print('no file')",
    "try:\n    print(x)\nexcept NameError as error:\n    print(error)",
    "def g():\n    n = 0\n    while True:\n        n += 1\n        yield n\ng = g()\nprint(next(g))",
    "try:\n    print(next(g))\nexcept NameError:\n    print('no generator')",
    "class C:\n    count = 0\n    def __del__(self): C.count += 1\nc = C()\ndel c\nprint(C.count)",
    "items = globals().setdefault('items', [])\nitems.append(len(items))\nprint(items)",
    "import decimal\ndecimal.getcontext().prec = 5\nprint(decimal.Decimal(1) / 3)",
    "import sys\nsys.setrecursionlimit(200)\nprint(sys.getrecursionlimit())",
    "import sys\nprint('to stderr', file=sys.stderr)\nprint(sys.getrecursionlimit(), end='')",
    "import threading\nt = threading.Thread(target=print, args=('thread',))\nt.start()\nt.join()",
    "import threading\nthreading.Thread(target=lambda: (threading.main_thread().join(), print('late'))).start()\nprint('started')",
    "import atexit\natexit.register(print, 'bye')",
    "import os\nr, w = os.pipe()\nos.write(w, b'x')\nprint(os.read(r, 1))",
    "import os\nif os.fork() == 0:\n    os._exit(0)\nprint(os.wait()[1])",
    "import signal\nsignal.setitimer(signal.ITIMER_REAL, 60)",
    "import signal\nprint(signal.getitimer(signal.ITIMER_REAL)[0] > 0)",
    "import mmap\nm = mmap.mmap(-1, 10)\nm[0] = 65\nprint(m[:1])",
    "try:\n    m[0] += 1\n    print(m[:1])\nexcept NameError:\n    print('no map')",
    "print('no newline at the end', end='')",
    "import io, sys\nold, sys.stdout = sys.stdout, io.StringIO()\nprint('hidden')\nsys.stdout = old",
    "print('x' * 900)",
    "1 / 0",
    "raise SystemExit",
    "exit(3)",
    "import sys\nsys.exit('no')",
    "for i in range(3):\n    print(i)",
    "    print('continued', i)",
    "else:\n    print('else')",
    "print(",
    "'a docstring'\nprint(__doc__)",
    "global x\nx = 5\nprint(x)",
    "from __future__ import annotations\nprint(annotations.compiler_flag > 0)",
    "assert False, 'never'",
    "import builtins\nbuiltins.print = lambda *a, **k: None",
    "import math\nmath.pi = 3\nprint(math.pi)",
    "y = [0] * 10**9",
    "",
    "# only a comment",
)


@pytest.fixture(autouse=True)
def _load_heavy_zygotes_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give heavy zygotes the modules of light ones: numpy and sympy take seconds to load, and no step here needs them."""
    monkeypatch.setitem(PRELOADED, Kind.HEAVY, PRELOADED[Kind.LIGHT])


@pytest.fixture
async def both() -> AsyncIterator[tuple[LocalExecutor, LocalExecutor]]:
    async with (
        LocalExecutor(slots=1, cache_mib=0, snapshot_mib=32) as with_snapshots,
        LocalExecutor(slots=1, cache_mib=0, snapshot_mib=0) as without_snapshots,
    ):
        yield with_snapshots, without_snapshots


def result_of(execution: Execution) -> tuple[str, str, str]:
    return execution.status, execution.stdout, execution.reason


async def walk(executor: LocalExecutor, path: Sequence[str], others: Sequence[str]) -> list[tuple[str, str, str]]:
    """Run a heavy path as a search does: at each node the next step and its siblings."""
    steps = [HEAVY + path[0], *path[1:]]
    results = []
    for depth, step in enumerate(steps):
        siblings = others if depth else [HEAVY + other for other in others]
        executions = await executor.execute(after(steps[:depth]), [step, *siblings, step], QUICK)
        results += [result_of(execution) for execution in executions]
    return results


def test_every_path_has_the_same_results_with_and_without_snapshots() -> None:
    """One executor of each kind serves all examples: the next example would show what one left behind."""
    with asyncio.Runner() as runner:
        with_snapshots = LocalExecutor(slots=1, cache_mib=0, snapshot_mib=32)
        without_snapshots = LocalExecutor(slots=1, cache_mib=0, snapshot_mib=0)
        runner.run(with_snapshots.start())
        runner.run(without_snapshots.start())

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5), st.lists(st.sampled_from(STEPS), max_size=1))
        def same(path: list[str], others: list[str]) -> None:
            assert runner.run(walk(with_snapshots, path, others)) == runner.run(walk(without_snapshots, path, others))

        try:
            same()
        finally:
            runner.run(with_snapshots.close())
            runner.run(without_snapshots.close())


async def test_steps_with_a_snapshot_are_not_run_again(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    """A program forked from a snapshot has the values of its steps without running them."""
    with_snapshots, without_snapshots = both
    steps = [
        f"{HEAVY}import random\nmark = id(random)\nspent = sum(range(3_000_000))",
        "spent += sum(range(3_000_000))",
    ]
    await with_snapshots.execute(after(steps[:1]), steps[1:], LIMITS)
    (quick,) = await with_snapshots.execute(after(steps), ["print(spent)"], LIMITS)
    (slow,) = await without_snapshots.execute(after(steps), ["print(spent)"], LIMITS)
    assert quick.stdout == slow.stdout
    assert quick.milliseconds < slow.milliseconds / 3


async def test_only_heavy_programs_continue_from_snapshots(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    with_snapshots, _ = both
    for first, resumed in (("x = 1", 0), (f"{HEAVY}x = 1", 2)):
        before = metrics.RESUMED._value.get()
        executions = await with_snapshots.execute(after([first]), ["print(x)", "print(-x)"], LIMITS)
        assert [execution.stdout for execution in executions] == ["1\n", "-1\n"]
        assert metrics.RESUMED._value.get() - before == resumed


async def test_siblings_from_one_snapshot_do_not_see_each_other(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    with_snapshots, _ = both
    executions = await with_snapshots.execute(
        after([f"{HEAVY}xs = [0]"]), [f"xs.append({k})\nprint(xs)" for k in range(1, 6)], LIMITS
    )
    assert [execution.stdout for execution in executions] == [f"[0, {k}]\n" for k in range(1, 6)]


async def test_the_steps_of_a_path_share_its_seconds_and_its_output_bytes(
    both: tuple[LocalExecutor, LocalExecutor],
) -> None:
    limits = replace(LIMITS, seconds=1.2, output_bytes=100)
    doze, output = f"{HEAVY}import select\nselect.select([], [], [], 0.8)", f"{HEAVY}print('x' * 60)"
    for executor in both:
        (first,) = await executor.execute(START, [output], limits)
        (second,) = await executor.execute(after([output]), ["print('y' * 60)"], limits)
        assert (first.status, second.status) == (S.OK, S.OUTPUT_LIMIT)
        assert second.stdout == "x" * 60 + "\n" + "y" * 39
        (once,) = await executor.execute(START, [doze], limits)
        (twice,) = await executor.execute(after([doze]), [doze], limits)
        assert (once.status, twice.status) == (S.OK, S.TIMEOUT)


async def test_the_memory_of_snapshots_is_bounded_and_dropped_ones_are_run_again() -> None:
    async with LocalExecutor(slots=1, cache_mib=0, snapshot_mib=16) as executor:
        for k in range(40):
            (execution,) = await executor.execute(after([f"{HEAVY}k = {k}"]), ["print(k)"], LIMITS)
            assert execution.stdout == f"{k}\n"
        # The waiting process, the warden and three zygotes; a preforked process; snapshots; dropped ones that are still ending.
        assert len(inside(executor)) < 5 + 1 + 12 + 8
        (execution,) = await executor.execute(after([f"{HEAVY}k = 0"]), ["print(k)"], LIMITS)
        assert execution.stdout == "0\n"


async def test_a_lost_snapshot_changes_no_result(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    with_snapshots, _ = both
    await with_snapshots.execute(after([f"{HEAVY}x = 1"]), ["x += 1\nprint(x)"], LIMITS)
    # A fork can kill the snapshot it comes from; it cannot reach forks of the zygote.
    killer = "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nprint('done')"
    (attack,) = await with_snapshots.execute(after([f"{HEAVY}x = 1"]), [killer], LIMITS)
    assert attack.stdout == "done\n"
    (following,) = await with_snapshots.execute(after([f"{HEAVY}x = 1"]), ["print(x + 1)"], LIMITS)
    assert (following.status, following.stdout) == (S.OK, "2\n")


ANY = Limits(1, 1, 1, 1)


@given(st.lists(st.text(max_size=3), max_size=6), st.integers(1, 400), st.integers(1, 5))
def test_the_longest_known_prefix_is_found_and_the_bounds_hold(steps: list[str], capacity: int, most: int) -> None:
    snapshots = Snapshots(capacity, most)
    keys = digests(ANY, steps)
    kept: dict[int, Snapshot] = {}
    for depth, key in enumerate(keys[1:], start=1):
        dropped = snapshots.put(key, Snapshot(pid=depth, notification=0, size=100))
        kept[depth] = Snapshot(depth, 0)
        for lost in dropped:
            del kept[lost.pid]
        assert snapshots.size <= capacity
        assert len(snapshots) == len(kept) <= most
    depth, found = snapshots.longest(keys)
    assert depth == max(kept, default=0)
    assert (found.pid if found else 0) == depth


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_digests_differ_for_different_divisions_of_one_text(one: list[str], other: list[str]) -> None:
    assert (digests(ANY, one)[-1] == digests(ANY, other)[-1]) == (one == other)


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("time = distance / speed\nprint(time)", True),
        ("import time", False),
        ("x = 1\nfrom datetime import date", False),
        ("import math, mmap", False),
        ("np.datetime64('now')", False),
        ("__import__('time')", False),
        ("# import nothing\nx = 1", True),
    ],
)
def test_text_that_may_read_a_clock_or_share_memory_gets_no_snapshot(text: str, may: bool) -> None:
    assert resumable(text) == may


def test_steps_that_change_the_meaning_of_others_are_compiled_together() -> None:
    assert units(["x = 1\n", "print(x)\n"]) == ["x = 1\n", "print(x)\n"]
    assert units(["x = 1\n", "global x\n"]) == ["x = 1\nglobal x\n"]


def test_a_batch_goes_to_the_worker_that_ran_the_longest_prefix_of_its_steps() -> None:
    affinity: Affinity[str] = Affinity(most=3)
    affinity.record("a", ["1"], ["2"])
    affinity.record("b", [], ["1"])
    assert affinity.choose(["a", "b"], ["1", "2", "3"]) == "a"
    assert affinity.choose(["b", "a"], ["1", "9"]) == "b"
    assert affinity.choose(["a", "b"], ["2"]) == "b"
    affinity.forget("a")
    assert affinity.choose(["a", "b"], ["1", "2", "3"]) == "b"

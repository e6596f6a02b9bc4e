"""Going on from a snapshot and running from the start end the same way, whatever the steps did to the interpreter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server.affinity import Affinity
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.warden.snapshots import Resting, Snapshots, digests, pieces, resumable

from rstar.interfaces import Execution
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS
from tests.support.executor.processes import inside
from tests.support.states import START, after

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
    "import threading\nthreading.Thread(target=print, args=('thread',)).start()",
    "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.02), print('late'))).start()\nprint('started')",
    "import atexit\natexit.register(print, 'bye')",
    "import os\nr, w = os.pipe()\nos.write(w, b'x')\nprint(os.read(r, 1))",
    "import os\nif os.fork() == 0:\n    os._exit(0)\nprint(os.wait()[1])",
    "import signal\nsignal.signal(signal.SIGALRM, lambda *_: print('alarm'))\nsignal.setitimer(signal.ITIMER_REAL, 0.01)",
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
    "    print('goes on', i)",
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


@pytest.fixture
async def both() -> AsyncIterator[tuple[LocalExecutor, LocalExecutor]]:
    async with (
        LocalExecutor(slots=1, cache_mib=0, snapshot_mib=32) as resuming,
        LocalExecutor(slots=1, cache_mib=0, snapshot_mib=0) as repeating,
    ):
        yield resuming, repeating


def essence(execution: Execution) -> tuple[str, str, str]:
    return execution.status, execution.stdout, execution.reason


async def along(executor: LocalExecutor, path: Sequence[str], others: Sequence[str]) -> list[tuple[str, str, str]]:
    """Walk a path as a search does: at each node, the next step and its siblings."""
    seen = []
    for depth, step in enumerate(path):
        executions = await executor.execute(after(path[:depth]), [step, *others, step], QUICK)
        seen += [essence(execution) for execution in executions]
    return seen


def test_every_path_ends_the_same_with_and_without_snapshots() -> None:
    """One executor of each kind serves all examples: what one leaves behind would show in the next."""
    with asyncio.Runner() as runner:
        resuming = LocalExecutor(slots=1, cache_mib=0, snapshot_mib=32)
        repeating = LocalExecutor(slots=1, cache_mib=0, snapshot_mib=0)
        runner.run(resuming.start())
        runner.run(repeating.start())

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5), st.lists(st.sampled_from(STEPS), max_size=1))
        def same(path: list[str], others: list[str]) -> None:
            assert runner.run(along(resuming, path, others)) == runner.run(along(repeating, path, others))

        try:
            same()
        finally:
            runner.run(resuming.close())
            runner.run(repeating.close())


async def test_a_path_is_not_run_again(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    """A snapshot's process lives on: what it has in memory, a fork still has, and no step runs twice."""
    resuming, repeating = both
    steps = ["import random\nmark = id(random)\nspent = sum(range(3_000_000))", "spent += sum(range(3_000_000))"]
    await resuming.execute(after(steps[:1]), steps[1:], LIMITS)
    (quick,) = await resuming.execute(after(steps), ["print(spent)"], LIMITS)
    (slow,) = await repeating.execute(after(steps), ["print(spent)"], LIMITS)
    assert quick.stdout == slow.stdout
    assert quick.milliseconds < slow.milliseconds / 3


async def test_siblings_from_one_parent_do_not_see_each_other(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    resuming, _ = both
    executions = await resuming.execute(
        after(["xs = [0]"]), [f"xs.append({k})\nprint(xs)" for k in range(1, 6)], LIMITS
    )
    assert [execution.stdout for execution in executions] == [f"[0, {k}]\n" for k in range(1, 6)]


async def test_a_path_shares_its_seconds_and_its_output(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    limits = replace(LIMITS, seconds=1.2, output_bytes=100)
    doze = "import select\nselect.select([], [], [], 0.8)"
    for executor in both:
        (first,) = await executor.execute(START, ["print('x' * 60)"], limits)
        (second,) = await executor.execute(after(["print('x' * 60)"]), ["print('y' * 60)"], limits)
        assert (first.status, second.status) == (S.OK, S.OUTPUT_LIMIT)
        assert second.stdout == "x" * 60 + "\n" + "y" * 39
        (once,) = await executor.execute(START, [doze], limits)
        (twice,) = await executor.execute(after([doze]), [doze], limits)
        assert (once.status, twice.status) == (S.OK, S.TIMEOUT)


async def test_the_memory_of_snapshots_is_bounded_and_the_oldest_go_first() -> None:
    async with LocalExecutor(slots=1, cache_mib=0, snapshot_mib=16) as executor:
        for k in range(40):
            (execution,) = await executor.execute(after([f"k = {k}"]), ["print(k)"], LIMITS)
            assert execution.stdout == f"{k}\n"
        # The warden and its roots, a newborn, those that rest, those that were told to go and have not gone yet.
        assert len(inside(executor)) < 4 + 1 + 12 + 8
        (execution,) = await executor.execute(after(["k = 0"]), ["print(k)"], LIMITS)
        assert execution.stdout == "0\n"


async def test_a_snapshot_that_is_lost_costs_nothing(both: tuple[LocalExecutor, LocalExecutor]) -> None:
    resuming, _ = both
    await resuming.execute(after(["x = 1"]), ["x += 1\nprint(x)"], LIMITS)
    # What rests after "x = 1" is killed by its own offspring; a fork of the root is out of its reach.
    killer = "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nprint('done')"
    (attack,) = await resuming.execute(after(["x = 1"]), [killer], LIMITS)
    assert attack.stdout == "done\n"
    (following,) = await resuming.execute(after(["x = 1"]), ["print(x + 1)"], LIMITS)
    assert (following.status, following.stdout) == (S.OK, "2\n")


ANY = Limits(1, 1, 1, 1)


@given(st.lists(st.text(max_size=3), max_size=6), st.integers(1, 400), st.integers(1, 5))
def test_the_longest_known_prefix_is_found_and_the_bounds_hold(steps: list[str], capacity: int, most: int) -> None:
    snapshots = Snapshots(capacity, most)
    keys = digests("light", ANY, steps)
    kept: dict[int, Resting] = {}
    for depth, key in enumerate(keys[1:], start=1):
        going = snapshots.put(key, Resting(pid=depth, call=0, size=100))
        kept[depth] = Resting(depth, 0)
        for gone in going:
            del kept[gone.pid]
        assert snapshots.size <= capacity
        assert len(snapshots) == len(kept) <= most
    depth, found = snapshots.longest(keys)
    assert depth == max(kept, default=0)
    assert (found.pid if found else 0) == depth


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_digests_tell_every_cut_of_a_text_apart(one: list[str], other: list[str]) -> None:
    assert (digests("light", ANY, one)[-1] == digests("light", ANY, other)[-1]) == (one == other)


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
def test_what_reads_a_clock_or_shares_memory_may_not_rest(text: str, may: bool) -> None:
    assert resumable(text) == may


def test_steps_that_change_how_the_next_is_read_are_one_piece() -> None:
    assert pieces(["x = 1\n", "print(x)\n"]) == ["x = 1\n", "print(x)\n"]
    assert pieces(["x = 1\n", "global x\n"]) == ["x = 1\nglobal x\n"]


def test_a_batch_goes_to_the_one_that_knows_the_longest_part_of_its_steps() -> None:
    affinity: Affinity[str] = Affinity(most=3)
    affinity.note("a", "light", ["1"], ["2"])
    affinity.note("b", "light", [], ["1"])
    assert affinity.choose(["a", "b"], "light", ["1", "2", "3"]) == "a"
    assert affinity.choose(["a", "b"], "light", ["1", "9"]) == "b"
    assert affinity.choose(["a", "b"], "heavy", ["1", "2"]) == "b"
    affinity.forget("a")
    assert affinity.choose(["a", "b"], "light", ["1", "2", "3"]) == "b"

"""A program that writes into the memory it shares with the warden, and sends it notifications, affects itself alone.

It gets some status within its time, no failure of the executor, and the next program finds everything unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rstar_executor.interpreter import shared_memory
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import Execution, ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.support.states import HEAVY, after

pytestmark = pytest.mark.slow

LIMITS = ExecutionLimits(seconds=1, memory_mib=128)
Execute = Callable[[Sequence[str], Sequence[str]], list[Execution]]

ATTACK = """
import os, sys
frame = sys._getframe()
while not hasattr(frame.f_locals.get('memory'), '_map'):
    frame = frame.f_back
mapped = frame.f_locals['memory']._map
if {forks} and os.fork():
    os.fork()
for start, data in {patches}:
    mapped[start:start + len(data)] = data
for number in {numbers}:
    try:
        os.sched_rr_get_interval(number)
    except OSError:
        pass
{end}
"""
ENDS = ("", "os._exit(0)", "os._exit(7)", "1 / 0", "os.kill(os.getpid(), 9)", "while True: pass", "mapped.close()")

starts = st.one_of(
    st.integers(0, 3), st.sampled_from([15, 16, 4111, 4112, 36_879, 36_880, shared_memory.COMMAND_BYTES])
)
patches = st.lists(
    st.tuples(starts, st.one_of(st.binary(max_size=8), st.sampled_from([b"\x02", b"\x02\x02", b"\x01" * 5000]))),
    max_size=4,
)
numbers = st.lists(st.one_of(st.integers(-3, 64), st.sampled_from([-(2**31), 2**31 - 1])), max_size=4)


@pytest.fixture(scope="module")
def execute() -> Iterator[Execute]:
    """One executor for all attacks: the next program would find what an attack left."""
    with asyncio.Runner() as runner:
        executor = LocalExecutor(slots=1, cache_mib=0)
        runner.run(executor.start())
        wardens = executor.warden_pids()
        yield lambda steps, candidates: runner.run(executor.execute(after(steps), candidates, LIMITS))
        assert executor.warden_pids() == wardens
        runner.run(executor.close())


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(patches, numbers, st.booleans(), st.sampled_from(ENDS), st.booleans())
@example([(0, b"\x02\x02\x01")], [0, 0, 0], False, "", True)
@example([(0, b"\x02\x02\x00")], [0, 3, 4], True, "", True)
@example([(0, b"\x03\x01\x00"), (16, b"forged")], [0], False, "", False)
def test_writes_into_shared_memory_and_notifications_affect_only_their_program(
    execute: Execute,
    patches: list[tuple[int, bytes]],
    numbers: list[int],
    forks: bool,
    end: str,
    early: bool,
) -> None:
    attack = HEAVY + ATTACK.format(patches=patches, numbers=numbers, forks=forks, end=end)
    plain = ["print(len(globals()) < 20)\n", "x = 1\nprint(x)\n"]
    attacked = execute([attack], ["print('a')\n", "print('b')\n"]) if early else execute([], [attack])
    assert S.INTERNAL not in {execution.status for execution in attacked}
    assert [(e.status, e.stdout, e.reason) for e in execute([], plain)] == [(S.OK, "True\n", ""), (S.OK, "1\n", "")]

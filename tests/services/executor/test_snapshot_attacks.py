"""A snapshot runs its program's code when it is resumed: what it can send the warden then affects only its own path."""

from __future__ import annotations

import pytest
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import Run
from tests.support.states import HEAVY, after

pytestmark = pytest.mark.slow

LIMITS = ExecutionLimits(seconds=1)
PLAIN = ["import random\nprint(random.random())", "import numpy\nprint(numpy.pi)"]

# Records success and asks to become a snapshot, then waits as interpreters do; when resumed, it sends a pid as its child's.
IMPOSTOR = """
import os, sys
frame = sys._getframe()
memory = None
while frame is not None:
    for value in list(frame.f_locals.values()):
        if type(getattr(value, '__self__', None)).__name__ == 'SharedMemory':
            memory = value.__self__
    frame = frame.f_back
memory.finish(2, '', '', 2)
for value in (0, *[{pid}] * 20):
    os.sched_rr_get_interval(value)
"""


@pytest.mark.parametrize("pid", [-(2**31), -1, 0, 1, 2, 3, 4, 5, 6, 2**31 - 1])
async def test_an_interpreter_that_sends_a_false_pid_affects_no_other_program(
    pid: int, run: Run, executor: LocalExecutor
) -> None:
    before = await run(*PLAIN)
    wardens = executor.warden_pids()
    impostor = HEAVY + IMPOSTOR.format(pid=pid)
    for steps in ([impostor], [impostor, "x = 1\n"], [impostor, "x = 1\n", "y = 2\n"]):
        attack = await executor.execute(after(steps), ["print('a')", "print('b')"], LIMITS)
        assert S.INTERNAL not in {execution.status for execution in attack}
        following = await run(*PLAIN)
        assert [(e.status, e.stdout) for e in following] == [(e.status, e.stdout) for e in before]
    assert executor.warden_pids() == wardens


async def test_a_program_cannot_reach_the_snapshot_of_another(executor: LocalExecutor, run: Run) -> None:
    secret = [f"{HEAVY}secret = 'hunter2'\n"]
    assert (await executor.execute(after(secret), ["print(secret)"], LIMITS))[0].stdout == "hunter2\n"
    hunt = """
import gc, os
for pid in range(1, 64):
    if pid != os.getpid():
        for number in (19, 18, 9):
            try: os.kill(pid, number)
            except OSError: pass
print('secret' in globals(), any(isinstance(x, dict) and x.get('secret') == 'hunter2' for x in gc.get_objects()))
"""
    (hunted,) = await run(HEAVY + hunt)
    assert hunted.stdout == "False False\n"
    assert (await executor.execute(after(secret), ["print(secret)"], LIMITS))[0].stdout == "hunter2\n"

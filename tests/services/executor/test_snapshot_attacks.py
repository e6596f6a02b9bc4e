"""A program that rests has its own code in control when it is woken: what it can say then harms nobody but itself."""

from __future__ import annotations

import pytest
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import Run
from tests.support.states import after

LIMITS = ExecutionLimits(seconds=1)
PLAIN = ["import random\nprint(random.random())", "import numpy\nprint(numpy.pi)"]

# Notes a good end and the wish to rest, and makes the call by which interpreters wait; woken, it says a child's number.
POSE = """
import os, sys
frame = sys._getframe()
area = None
while frame is not None:
    for value in list(frame.f_locals.values()):
        if type(getattr(value, '__self__', None)).__name__ == 'Area':
            area = value.__self__
    frame = frame.f_back
area.finish(2, '', '', 2)
for said in (0, *[{said}] * 20):
    os.sched_rr_get_interval(said)
"""


@pytest.mark.parametrize("said", [-(2**31), -1, 0, 1, 2, 3, 4, 5, 6, 2**31 - 1])
async def test_an_interpreter_that_says_the_number_of_another_costs_no_other_program(
    said: int, run: Run, executor: LocalExecutor
) -> None:
    before = await run(*PLAIN)
    wardens = executor.warden_pids()
    pose = POSE.format(said=said)
    for steps in ([pose], [pose, "x = 1\n"], [pose, "x = 1\n", "y = 2\n"]):
        attack = await executor.execute(after(steps), ["print('a')", "print('b')"], LIMITS)
        assert S.INTERNAL not in {execution.status for execution in attack}
        following = await run(*PLAIN)
        assert [(e.status, e.stdout) for e in following] == [(e.status, e.stdout) for e in before]
    assert executor.warden_pids() == wardens


async def test_what_rests_of_one_program_is_out_of_reach_for_another(executor: LocalExecutor, run: Run) -> None:
    secret = ["secret = 'hunter2'\n"]
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
    (hunted,) = await run(hunt)
    assert hunted.stdout == "False False\n"
    assert (await executor.execute(after(secret), ["print(secret)"], LIMITS))[0].stdout == "hunter2\n"

"""Each test attacks one property: nothing is left behind, nothing is shared, nothing is forged."""

from __future__ import annotations

import ast

import pytest
from rstar_executor.interpreter.one_thread import ENVIRONMENT
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS, Run
from tests.support.executor.processes import only_idle_processes_left
from tests.support.states import START, after

DAEMON = """
import os, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.write(w, b'%d' % os.getpid())
        while True: time.sleep(1)
    os._exit(0)
print(os.read(r, 20).decode())
"""


async def test_a_daemon_is_gone_with_its_program(executor: LocalExecutor, run: Run) -> None:
    await run("print(1)")
    assert await only_idle_processes_left(executor)
    (execution,) = await run(DAEMON)
    assert execution.status == S.OK
    assert int(execution.stdout) > 1
    assert await only_idle_processes_left(executor)


async def test_a_daemon_is_gone_after_a_timeout(executor: LocalExecutor, run: Run) -> None:
    await run("print(1)")
    assert await only_idle_processes_left(executor)
    (execution,) = await run(f"{DAEMON}\nos.sys.stdout.flush()\nwhile True: pass", limits=ExecutionLimits(seconds=0.5))
    assert execution.status == S.TIMEOUT
    assert await only_idle_processes_left(executor)


async def test_many_descendants_that_keep_forking_are_gone(executor: LocalExecutor, run: Run) -> None:
    program = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        for _ in range(200):  # each generation leaves the one before at once
            if os.fork(): os._exit(0)
            os.setsid()
        time.sleep(1000)
print('started')
"""
    await run("print(1)")
    assert await only_idle_processes_left(executor)
    (crowd,) = await run(program)
    assert (crowd.status, crowd.stdout) == (S.OK, "started\n")
    assert await only_idle_processes_left(executor)


async def test_a_child_that_holds_standard_output_does_not_delay_the_result(run: Run) -> None:
    (execution,) = await run("import os, time\nif os.fork() == 0: time.sleep(1000)\nprint('done')")
    assert (execution.status, execution.stdout) == (S.OK, "done\n")


@pytest.mark.parametrize("end", ["", "1 / 0", "import os\nos._exit(0)"])
async def test_garbage_in_every_descriptor_forges_nothing(end: str, run: Run) -> None:
    program = """
import os
for fd in range(1024):
    for text in (b'ok', b'\\0\\0\\0\\2ok', b'\\0' * 100, b'<end_of_output>', b'{"status": "ok"}'):
        try: os.write(fd, text)
        except OSError: pass
"""
    attack, after = await run(program + end, "print('next')")
    assert attack.status == {"": S.OK, "1 / 0": S.EXCEPTION}.get(end, S.CRASHED)
    assert (after.status, after.stdout) == (S.OK, "next\n")


async def test_closing_every_descriptor_hides_no_failure(run: Run) -> None:
    silent, failing, after = await run(
        "import os\nos.closerange(0, 1024)", "import os\nos.closerange(0, 1024)\n1 / 0", "print('next')"
    )
    assert silent.status == S.OK
    assert failing.reason == "ZeroDivisionError: division by zero (line 3)"
    assert after.stdout == "next\n"


async def test_output_lost_in_a_closed_descriptor_is_an_exception(run: Run) -> None:
    (execution,) = await run("import os\nprint('lost')\nos.close(1)")
    assert execution.status == S.EXCEPTION
    assert "Bad file descriptor" in execution.reason


async def test_a_program_finds_a_fixed_environment_no_input_no_descriptors_and_an_empty_directory(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSTAR_TEST_SECRET", "hunter2")
    program = """
import os, sys
fds = []
for fd in range(64):
    try: os.fstat(fd); fds.append(fd)
    except OSError: pass
print([dict(os.environ), sys.stdin.read(), fds, os.listdir(), sys.argv, os.getsid(0) == os.getpid()])
"""
    (execution,) = await run(program)
    assert ast.literal_eval(execution.stdout) == [ENVIRONMENT, "", [0, 1, 2], [], ["program.py"], True]


async def test_files_do_not_reach_the_next_program(run: Run) -> None:
    look = "import os\nprint(os.listdir('.'), oct(os.stat('.').st_mode & 0o777))"
    vandals = (
        "open('note', 'w').write('x')",
        "import os\nos.makedirs('a/b/c')\nos.symlink('/', 'a/root')\nos.chmod('a/b', 0)",
        "import os\nos.chmod('.', 0)",
    )
    for vandal in vandals:
        first, second = await run(vandal, look)
        assert (first.status, first.reason) == (S.OK, "")
        assert second.stdout == "[] 0o700\n"


async def test_the_directory_itself_stays(run: Run) -> None:
    look = "import os\nprint(os.listdir('.'), oct(os.stat('.').st_mode & 0o777))"
    for vandal in ("os.rmdir(here)", "os.rename(here, here + '-moved')"):
        first, second = await run(f"import os\nhere = os.getcwd()\n{vandal}", look)
        assert first.status == S.EXCEPTION
        assert second.stdout == "[] 0o700\n"


async def test_state_does_not_reach_the_next_program(run: Run) -> None:
    vandal = """
import builtins, decimal, math, random, sys, warnings
math.pi = 3
random.seed(7)
decimal.getcontext().prec = 2
sys.modules['json'] = None
warnings.simplefilter('error')
for name in ('len', 'print', 'isinstance', 'open', 'str', 'type', '__import__'):
    setattr(builtins, name, None)
"""
    look = "import json, math, random, decimal\nprint(math.pi, random.random(), decimal.getcontext().prec, len('ab'), hash('a'))"
    before, attack, after = await run(look, vandal, look)
    assert (attack.status, attack.reason) == (S.OK, "")
    assert before.status == S.OK
    assert before.stdout == after.stdout


async def test_candidates_share_the_prefix_and_nothing_else(executor: LocalExecutor) -> None:
    steps = ["import random\nxs = [1]\nr = random.random()\n<end_of_step>"]
    candidates = ["xs.append(2)\nprint(xs, r)", "xs.append(3)\nprint(xs, r)", "print(xs, r)"]
    executions = await executor.execute(after(steps), candidates, LIMITS)
    numbers = {execution.stdout.split("] ")[1] for execution in executions}
    assert [execution.stdout.split("] ")[0] for execution in executions] == ["[1, 2", "[1, 3", "[1"]
    assert len(numbers) == 1


async def test_two_executors_give_one_program_one_result() -> None:
    program = "import random\nprint(random.random(), hash('text'), {'a', 'b', 'c'})"
    async with LocalExecutor(slots=1, cache_mib=0) as first, LocalExecutor(slots=1, cache_mib=0) as second:
        assert (await first.execute(START, [program], LIMITS))[0].stdout == (
            await second.execute(START, [program], LIMITS)
        )[0].stdout


async def test_numpy_and_sympy_run_seeded_in_the_heavy_interpreter(run: Run) -> None:
    program = (
        "import numpy as np\nfrom sympy import symbols, solve, randprime\n"
        "x = symbols('x')\nprint(solve(x**2 - 4), np.random.rand(), randprime(10, 10**6))"
    )
    (first,), (second,) = await run(program), await run(program)
    assert first.status == S.OK, first.reason
    assert first.stdout.startswith("[-2, 2] ")
    assert first.stdout == second.stdout
    (memory,) = await run("import numpy as np\nnp.ones(10**9)")
    assert memory.status == S.MEMORY

"""Tracebacks are those that Python prints, without the frames of the executor, and only for calls that ask for them."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path

import pytest
from rstar_executor.interpreter import runner
from rstar_executor.interpreter.shared_memory import TRACEBACK_BYTES
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS
from tests.support.states import START, after

FAILING = {
    "no newline at its end": "1 / 0",
    "nested": "def f(n):\n    return 1 / n\n\nprint('before')\nf(0)\n",
    "chained": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('no a') from error\n",
    "in a library": "import json\njson.loads('{')\n",
    "syntax": "x = 1\nprint(x\n",
    "group": "raise ExceptionGroup('both', [ValueError(1), TypeError(2)])\n",
}


@pytest.mark.parametrize("program", FAILING.values(), ids=FAILING)
async def test_a_traceback_is_what_python_prints(executor: LocalExecutor, program: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program)
    alone = await asyncio.create_subprocess_exec(sys.executable, str(file), stdout=PIPE, stderr=PIPE)
    _, printed = await alone.communicate()
    (execution,) = await executor.run([program], LIMITS, tracebacks=True)
    assert execution.traceback == printed.decode().replace(str(file), "<program>")


async def test_the_lines_of_all_steps_are_shown(executor: LocalExecutor) -> None:
    steps = ["def f(n):\n    return 1 / n\n", "x = 0\n"]
    (execution,) = await executor.execute(after(steps), ["f(x)\n"], LIMITS, tracebacks=True)
    assert "line 4, in <module>\n    f(x)\n" in execution.traceback
    assert "line 2, in f\n    return 1 / n\n" in execution.traceback


async def test_only_a_call_that_asks_for_tracebacks_gets_one(executor: LocalExecutor) -> None:
    (execution,) = await executor.execute(START, ["1 / 0\n"], LIMITS)
    assert (execution.reason, execution.traceback) == ("ZeroDivisionError: division by zero (line 1)", "")
    (asked,) = await executor.execute(START, ["1 / 0\n"], LIMITS, tracebacks=True)
    assert (asked.reason, asked.traceback != "") == (execution.reason, True)


@pytest.mark.parametrize("end", ["print(1)\n", "import os\nos._exit(3)\n", "while True: pass\n"])
async def test_a_program_without_an_uncaught_exception_has_no_traceback(executor: LocalExecutor, end: str) -> None:
    (execution,) = await executor.run([end], replace(LIMITS, seconds=1), tracebacks=True)
    assert execution.traceback == ""


async def test_a_hostile_exception_affects_only_its_own_traceback(executor: LocalExecutor) -> None:
    programs = [
        "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E\n",
        "import traceback\ntraceback.format_exception = None\nraise ValueError('x')\n",
        "def f(): f()\nf()\n",
        "raise ValueError('x' * 1_000_000)\n",
        "raise ValueError('\\ud800\\0')\n",
    ]
    executions = await executor.run([*programs, "print('after')"], LIMITS, tracebacks=True)
    assert [execution.status for execution in executions] == [S.EXCEPTION] * len(programs) + [S.OK]
    assert all(len(execution.traceback.encode()) < TRACEBACK_BYTES for execution in executions)


def test_a_traceback_that_is_too_long_keeps_its_start_and_its_end() -> None:
    try:
        raise ValueError("\U0001f600" * 100_000)
    except ValueError as error:
        text = runner.format_traceback(error, "<program>", "")
    assert text.startswith("ValueError: \U0001f600")
    assert "\n...\n" in text
    assert len(text.encode()) < TRACEBACK_BYTES

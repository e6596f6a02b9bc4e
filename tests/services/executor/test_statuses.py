"""Every way a program can end has its status and a reason of one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS, Run
from tests.support.states import after

BRIEF = replace(LIMITS, seconds=0.5)

ENDINGS = {
    "ok": ("print(1 + 1)", S.OK, ""),
    "nothing at all": ("", S.OK, ""),
    "a comment": ("# Step 1: think", S.OK, ""),
    "guarded by its name": ("if __name__ == '__main__':\n    print(2)", S.OK, ""),
    "sys.exit()": ("import sys\nsys.exit()", S.OK, ""),
    "sys.exit(0)": ("import sys\nsys.exit(0)", S.OK, ""),
    "exit()": ("exit()", S.OK, ""),
    "sys.exit(3)": ("import sys\nsys.exit(3)", S.EXCEPTION, "SystemExit: 3 (line 2)"),
    "sys.exit(text)": ("import sys\nsys.exit('no solution')", S.EXCEPTION, "SystemExit: no solution (line 2)"),
    "an exception": ("x = 1\n\nx / 0", S.EXCEPTION, "ZeroDivisionError: division by zero (line 3)"),
    "an exception in a library": (
        "import json\njson.loads('{')",
        S.EXCEPTION,
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) (line 2)",
    ),
    "an assertion": ("assert 1 == 2", S.EXCEPTION, "AssertionError (line 1)"),
    "bad syntax": ("x = 1\nprint(", S.EXCEPTION, "SyntaxError: '(' was never closed (line 2)"),
    "bad indentation": (
        "if 1:\nx",
        S.EXCEPTION,
        "IndentationError: expected an indented block after 'if' statement on line 1 (line 2)",
    ),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", S.EXCEPTION, "KeyboardInterrupt (line 1)"),
    "recursion": ("def f(): return f()\nf()", S.EXCEPTION, "RecursionError: maximum recursion depth exceeded (line 1)"),
    "an unknown module": (
        "import nothing_of_the_kind",
        S.EXCEPTION,
        "ModuleNotFoundError: No module named 'nothing_of_the_kind' (line 1)",
    ),
    "a lone surrogate in the code": (
        "x = '\ud800'",
        S.EXCEPTION,
        "UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 5: surrogates not allowed",
    ),
    "an exception whose text fails": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        S.EXCEPTION,
        "E (line 3)",
    ),
    "memory": ("x = [0] * 10**9", S.MEMORY, "MemoryError (line 1)"),
    "memory bit by bit": ("x = []\nwhile True: x.append('a' * 10**5)", S.MEMORY, "MemoryError (line 2)"),
    "os._exit(0)": ("import os\nos._exit(0)", S.CRASHED, "left by os._exit(0) before its end"),
    "os._exit(7)": ("import os\nos._exit(7)", S.CRASHED, "left by os._exit(7) before its end"),
    "abort": ("import os\nos.abort()", S.CRASHED, "killed by SIGABRT"),
    "segfault": ("import ctypes\nctypes.string_at(0)", S.CRASHED, "killed by SIGSEGV"),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)", S.CRASHED, "killed by SIGKILL"),
    "NUL": ("print('\0')", S.REJECTED, "the program contains a NUL character"),
    "too long": ("#" * (1 << 20), S.REJECTED, "the program has 1048577 characters, more than 1048576"),
    "a file too large": (
        "with open('f', 'wb') as f: f.write(bytes(20 << 20))",
        S.EXCEPTION,
        "OSError: [Errno 27] File too large (line 1)",
    ),
    "a forked copy that fails": ("import os\nif os.fork() == 0: 1 / 0\nelse: os.wait()", S.OK, ""),
    "a thread that outlives the last line": (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
        S.OK,
        "",
    ),
    "an exit handler that fails": ("import atexit\natexit.register(lambda: print('bye'))", S.OK, ""),
    "standard output closed": ("import sys\nsys.stdout.close()", S.OK, ""),
    "standard output taken away": ("import sys\nsys.stdout = None", S.OK, ""),
}

ENDLESS = {
    "a loop": "while True: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "one huge power": "x = 9 ** 10 ** 9",
    "a catastrophic regex": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "a loop that swallows everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "all signals ignored": "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    "stopped": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "a deadlock": "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()",
    "a thread that never ends": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
    "an exit handler that never ends": "import atexit, time\natexit.register(time.sleep, 1000)",
    "an exception whose text never ends": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "a reader": "input = open(0).read\nimport os\nr, w = os.pipe()\nos.read(r, 1)",
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_each_way_to_end_has_its_status_and_reason(name: str, run: Run) -> None:
    program, status, reason = ENDINGS[name]
    (execution,) = await run(program)
    assert (execution.status, execution.reason) == (status, reason)


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_endless_program_is_ended_and_the_next_one_runs(name: str, run: Run) -> None:
    endless, after = await run(ENDLESS[name], "print('here')", limits=BRIEF)
    assert (endless.status, endless.reason) == (S.TIMEOUT, "not finished after 0.5 s")
    assert (after.status, after.stdout) == (S.OK, "here\n")


async def test_output_before_the_end_is_kept_whatever_the_end(run: Run) -> None:
    output = "print('so far', flush=True)\n"
    endings = ("1 / 0", "import os\nos._exit(1)", "while True: pass", "x = [0] * 10**9")
    executions = await run(*[output + ending for ending in endings], limits=BRIEF)
    assert [execution.stdout for execution in executions] == ["so far\n"] * 4
    assert [execution.status for execution in executions] == [S.EXCEPTION, S.CRASHED, S.TIMEOUT, S.MEMORY]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("flood", ["x" * 10_000, "\n"])
async def test_a_flood_is_stopped_at_the_limit(stream: str, flood: str, run: Run) -> None:
    limits = replace(LIMITS, output_bytes=1000)
    (execution,) = await run(f"import sys\nwhile True: sys.{stream}.write({flood!r})", limits=limits)
    assert (execution.status, execution.reason) == (S.OUTPUT_LIMIT, "more than 1000 bytes of output")
    assert len(execution.stdout) == (1000 if stream == "stdout" else 0)


async def test_output_of_exactly_the_limit_is_ok(run: Run) -> None:
    fits, over = await run("print('x' * 99)", "print('x' * 100)", limits=replace(LIMITS, output_bytes=100))
    assert (fits.status, len(fits.stdout)) == (S.OK, 100)
    assert (over.status, len(over.stdout)) == (S.OUTPUT_LIMIT, 100)


async def test_output_larger_than_a_pipe_arrives_whole(run: Run) -> None:
    (execution,) = await run("print('ab' * 200_000)", limits=replace(LIMITS, output_bytes=1 << 20))
    assert execution.stdout == "ab" * 200_000 + "\n"


async def test_output_that_is_not_utf8_is_replaced(run: Run) -> None:
    raw, surrogate, nul = await run(
        "import sys\nsys.stdout.buffer.write(b'a\\xffb\\xc3')", "print('a\\ud800b')", "print('a\\0b')"
    )
    assert (raw.status, raw.stdout) == (S.OK, "a\ufffdb\ufffd")
    assert (surrogate.status, surrogate.stdout) == (S.OK, "a?b\n")
    assert (nul.status, nul.stdout) == (S.OK, "a\0b\n")


async def test_a_reason_is_one_line_of_bounded_length(run: Run) -> None:
    many, long = await run("raise ValueError('a\\nb\\0c\\n')", "raise ValueError('x' * 10**6)")
    assert many.reason == "ValueError: a b c (line 1)"
    assert len(long.reason) < 400


async def test_a_program_is_made_of_the_steps_and_one_candidate(executor: object) -> None:
    from rstar_executor.server.local_executor import LocalExecutor

    assert isinstance(executor, LocalExecutor)
    steps = ["<code>\n# Step 1: set\nx = 20\n<end_of_step>", "# Step 2: more\nx += 1\n<end_of_step>"]
    candidates = ["print(x + 1)\n<end_of_step>", "print(x * 2)<end_of_code>", "print('<output>')", ""]
    executions = await executor.execute(after(steps), candidates, LIMITS)
    assert [execution.status for execution in executions[:2]] == [S.OK, S.OK]
    assert [execution.stdout for execution in executions[:2]] == ["22\n", "42\n"]
    assert executions[3].status == S.OK
    assert await executor.execute(after(steps), [], LIMITS) == []

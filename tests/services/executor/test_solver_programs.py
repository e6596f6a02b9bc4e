"""What solvers write prints in the executor what it prints in plain CPython, whole and step by step, behind all layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from decimal import Context
from typing import Any

import pytest

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS, Run
from tests.support.executor.restricted import SETTINGS, obstacle
from tests.support.executor.solver_programs import PROGRAMS
from tests.support.paths import ROOT

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

FAILING = {"standard library: exit with a failure", "standard library: an uncaught exception"}
ENVIRONMENT = {
    **os.environ,
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HOME": "/nonexistent",
}


def answer(programs: Mapping[str, str], *command: str) -> dict[str, Any]:
    """Run the programs with ``command``, a driver that reads and prints JSON."""
    done = subprocess.run(
        [*command], input=json.dumps(programs).encode(), capture_output=True, env=ENVIRONMENT, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[bool, str]]:
    found = answer(PROGRAMS, sys.executable, "-m", "tests.support.executor.plain_python")
    return {name: (ran, stdout) for name, (ran, stdout) in found.items()}


def differences(results: Mapping[str, Any], expected: Mapping[str, tuple[bool, str]]) -> list[str]:
    found = []
    for name, ends in results.items():
        for way, (status, stdout, reason) in ends.items():
            if (status == S.OK, stdout) != expected[name]:
                found.append(f"{name}, {way}: {status} {reason} {stdout[:300]!r}, not {expected[name]!r}")
    return found


def test_every_program_of_the_table_does_in_cpython_what_its_name_says(expected: dict[str, tuple[bool, str]]) -> None:
    assert {name for name, (ran, _) in expected.items() if not ran} == FAILING
    assert all(stdout for _, stdout in expected.values())
    assert len(PROGRAMS) >= 100


def test_every_program_prints_what_cpython_prints(expected: dict[str, tuple[bool, str]]) -> None:
    report = answer(PROGRAMS, sys.executable, "-m", "tests.support.executor.solver_driver")
    assert report["results"].keys() == PROGRAMS.keys()
    found = differences(report["results"], expected)
    assert not found, "\n".join(found)
    assert report["threads"] == [1]


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting != "no-landlock"])
def test_linear_algebra_and_concurrency_work_behind_every_combination_of_layers(
    setting: str, expected: dict[str, tuple[bool, str]]
) -> None:
    if reason := obstacle(setting):
        pytest.skip(reason)
    groups = ("linear algebra: ", "concurrent: ")
    programs = {name: text for name, text in PROGRAMS.items() if name.startswith(groups)}
    restricted = ("-m", "tests.support.executor.restricted", setting)
    report = answer(programs, sys.executable, *restricted, sys.executable, "-m", "tests.support.executor.solver_driver")
    found = differences(report["results"], expected)
    assert not found, "\n".join(found)
    assert report["threads"] == [1]


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("numexpr", "import numexpr as ne, numpy as np\na = np.ones(10**6)\nprint(ne.evaluate('2*a + 1').sum())"),
        (
            "numba",
            "import numba, numpy as np\n@numba.njit(parallel=True)\ndef f(a):\n    t = 0.0\n"
            "    for k in numba.prange(len(a)): t += a[k]\n    return t\nprint(f(np.ones(1000)))",
        ),
        (
            "joblib",
            "from joblib import Parallel, delayed\nprint(Parallel(n_jobs=2)(delayed(abs)(-k) for k in range(3)))",
        ),
        ("gmpy2", "import gmpy2, sympy\nprint(gmpy2.is_prime(101), sympy.factorint(10**12 + 39))"),
        ("flint", "import flint, sympy\nprint(flint.fmpz(10).factor(), sympy.factorint(10**12 + 39))"),
    ],
)
async def test_libraries_that_bring_threads_of_their_own_work_where_they_are_installed(
    module: str, program: str, run: Run
) -> None:
    pytest.importorskip(module)
    (execution,) = await run(program, limits=ExecutionLimits(seconds=60))
    assert (execution.status, execution.reason) == (S.OK, "")


async def test_integers_print_up_to_the_limit_of_output(run: Run) -> None:
    fits, read, over = await run(
        "n = 3**100_000\nprint(n)\nprint(len(str(n)))",
        "print(int('7' * 10_000) % 1000, len(f'{10**9_999:d}'), 10**5000 == int('1' + '0' * 5000))",
        "print(2**1_000_000)",
        limits=replace(LIMITS, output_bytes=65_536, seconds=60),
    )
    assert (fits.status, fits.stdout) == (S.OK, f"{Context(prec=50_000).power(3, 100_000)}\n47713\n")
    assert (read.status, read.stdout) == (S.OK, "777 10000 True\n")
    assert (over.status, len(over.stdout)) == (S.OUTPUT_LIMIT, 65_536)


@pytest.mark.parametrize(
    "program",
    [
        "print(1 << 100_000_000)",
        "int('7' * 10_000_000)",
        "print(f'{9**30_000_000}')",
        "from decimal import *\nint(Decimal('7' * 5_000_000))",
    ],
)
async def test_a_conversion_without_end_ends_by_the_limit_of_time(program: str, run: Run) -> None:
    endless, after = await run(program, "print('here')", limits=replace(LIMITS, seconds=0.5))
    assert endless.status == S.TIMEOUT
    assert after.stdout == "here\n"


NOT_OFFERED = {
    "import multiprocessing as mp\nmp.Value('i', 0)": "programs have no shared memory",
    "import multiprocessing as mp\nmp.Array('i', 3)": "programs have no shared memory",
    "import multiprocessing as mp\nmp.Barrier(2)": "programs have no shared memory",
    "from multiprocessing.shared_memory import *\nSharedMemory(create=True, size=9)": "programs have no shared memory",
    "import multiprocessing as mp\nmp.get_context('spawn').Process(target=print).start()": "the method 'fork' works",
    "import multiprocessing as mp\nmp.get_context('spawn').Pool(2)": "the method 'fork' works",
    "import subprocess\nsubprocess.run(['ls'])": "a program cannot start another one",
    "import os\nos.popen('ls')": "a program cannot start another one",
}


async def test_what_is_not_offered_says_so_in_one_line_at_once(run: Run) -> None:
    executions = await run(*NOT_OFFERED)
    reasons = [(execution.status, execution.reason) for execution in executions]
    assert not [
        (found, said) for found, said in zip(reasons, NOT_OFFERED.values(), strict=True) if said not in found[1]
    ]
    assert {status for status, _ in reasons} == {S.EXCEPTION}


async def test_as_many_threads_as_a_pool_starts_fit_into_the_memory_of_a_program(run: Run) -> None:
    program = (
        "import threading\nbarrier = threading.Barrier(33)\ndef work():\n    x = [bytearray(10**6) for _ in range(2)]\n"
        "    barrier.wait()\nts = [threading.Thread(target=work) for _ in range(32)]\n"
        "[t.start() for t in ts]; barrier.wait(); [t.join() for t in ts]\nprint('all')"
    )
    (execution,) = await run(program, limits=ExecutionLimits(seconds=60))
    assert (execution.status, execution.stdout) == (S.OK, "all\n"), execution.reason

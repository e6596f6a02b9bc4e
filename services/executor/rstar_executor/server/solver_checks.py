"""Programs as solvers write them, whose output is known, for ``rstar executor doctor``.

The layers say what programs cannot do; these say what they can. A library that does not work in a sandboxed fork is found
here, not in the failed steps of a search.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from rstar.distribution import extra
from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar_executor.server.local_executor import LocalExecutor


class CheckedProgram(NamedTuple):
    """A program that needs ``module``, and what it prints."""

    module: str
    text: str
    output: str


class Check(NamedTuple):
    """Whether the program of ``module`` printed what it should; ``installed`` is False where it could not be imported."""

    module: str
    works: bool
    installed: bool
    detail: str


NUMPY: Final = CheckedProgram(
    "numpy",
    """import numpy as np
a = np.ones((200, 200))
print((a @ a)[0, 0], np.linalg.solve(2 * np.eye(100), np.ones(100)).sum())
print(round(np.linalg.eigvalsh(a)[-1]), round(np.linalg.svd(a)[1][0]))
""",
    "200.0 50.0\n200 200\n",
)
SYMPY: Final = CheckedProgram(
    "sympy",
    """from sympy import Matrix, integrate, solve, symbols
x = symbols("x")
print(solve(x**2 - 5*x + 6, x), integrate(2*x, (x, 0, 3)), Matrix([[2, 1], [1, 3]]).det())
""",
    "[2, 3] 9 5\n",
)
SCIPY: Final = CheckedProgram(
    "scipy",
    """import numpy as np
from scipy import integrate, linalg, optimize
print(linalg.solve(2 * np.eye(100), np.ones(100)).sum(), round(optimize.brentq(lambda x: x * x - 2, 0, 2), 4))
print(round(integrate.quad(lambda x: x, 0, 2)[0], 4))
""",
    "50.0 1.4142\n2.0\n",
)

PROGRAMS: Final = (NUMPY, SYMPY, SCIPY)

_LIMITS: Final = ExecutionLimits(seconds=10)


async def run_checks(executor: LocalExecutor) -> list[Check]:
    """Run each of ``PROGRAMS`` and compare its output."""
    checks = []
    for program in PROGRAMS:
        (execution,) = await executor.run([program.text], _LIMITS)
        works = execution.status is ExecutionStatus.OK and execution.stdout == program.output
        missing = execution.reason.startswith("ModuleNotFoundError")
        if works:
            detail = f"a program with {program.module} runs, in {execution.milliseconds:.0f} ms"
        elif missing:
            detail = f"{program.module} is not installed; programs that import it fail: {extra('executor')}"
        else:
            ended = execution.reason or f"printed {execution.stdout[:200]!r} instead of {program.output!r}"
            detail = f"a program with {program.module} does not run: {execution.status.value}, {ended}"
        checks.append(Check(program.module, works, not missing, detail))
    return checks


def first_failure(checks: Iterable[Check]) -> str:
    """Return why an installed module does not work; empty when all do."""
    return next((check.detail for check in checks if check.installed and not check.works), "")

"""Programs with known results for ``benchmarks.executor_load``.

They are grouped as in a search: the steps of a problem, one batch of candidates per step, one of them the next step. Most
take milliseconds; durations have a heavy tail (Pareto), up to two seconds. Some fail, each in a known way.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus
from rstar.seeds import derive

DEPTH: Final = 6
CANDIDATES: Final = 4
LONGEST_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class KnownProgram:
    """A candidate's text and its right result; ``value`` is the final value of its variable, ``prints`` its own output."""

    text: str
    status: ExecutionStatus
    prints: str
    value: int

    def is_right(self, before: str, execution: Execution) -> bool:
        """Say whether ``execution`` is the right result after steps that print ``before``."""
        return (execution.status, execution.stdout) == (self.status, before + self.prints)


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """One call: the steps so far, their output, and the candidates."""

    steps: Sequence[str]
    before: str
    candidates: Sequence[KnownProgram]

    def wrong(self, executions: Sequence[Execution]) -> list[tuple[KnownProgram, Execution]]:
        """Return the candidates with wrong results."""
        pairs = zip(self.candidates, executions, strict=True)
        return [(known, execution) for known, execution in pairs if not known.is_right(self.before, execution)]


def batches(seed: int, problem: str) -> Iterator[KnownBatch]:
    """Yield the calls of one search path in order."""
    rng = random.Random(derive(seed, "load", problem))
    value = rng.randrange(1_000)
    steps, before = [f"<code>\n# {problem}\nv = {value}\n<end_of_step>"], ""
    for _ in range(DEPTH):
        candidates = [_candidate(rng, value) for _ in range(CANDIDATES - 1)]
        candidates.append(_good(rng, value, "pass"))
        yield KnownBatch(tuple(steps), before, candidates)
        taken = rng.choice([known for known in candidates if known.status is ExecutionStatus.OK])
        steps.append(taken.text)
        before, value = before + taken.prints, taken.value


def _candidate(rng: random.Random, value: int) -> KnownProgram:
    kind = rng.random()
    if kind < 0.80:
        return _good(rng, value, "pass")
    if kind < 0.88:
        return _good(rng, value, f"import time\ntime.sleep({min(LONGEST_SECONDS, 0.02 * rng.paretovariate(0.7)):.3f})")
    if kind < 0.91:
        return _good(rng, value, "import sympy\nassert sympy.isprime(97)")
    if kind < 0.97:
        divisor = rng.randrange(9)
        text = f"print(v + {divisor})\nprint(v / (v - {value}))\n<end_of_step>"
        return KnownProgram(text, ExecutionStatus.EXCEPTION, f"{value + divisor}\n", value)
    if kind < 0.99:
        return KnownProgram("import os\nos._exit(3)\n<end_of_step>", ExecutionStatus.CRASHED, "", value)
    text = "x = []\nwhile True:\n    x.append(bytes(1 << 24))\n<end_of_step>"
    return KnownProgram(text, ExecutionStatus.MEMORY, "", value)


def _good(rng: random.Random, value: int, work: str) -> KnownProgram:
    factor, term = rng.randrange(2, 9), rng.randrange(1_000_000)
    result = (value * factor + term) % 1_000_003
    text = f"{work}\nv = (v * {factor} + {term}) % 1000003\nprint(v)\n<end_of_step>"
    return KnownProgram(text, ExecutionStatus.OK, f"{result}\n", result)

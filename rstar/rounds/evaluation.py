"""The figures of an evaluation: accuracy with its confidence interval, and always the cost beside it.

The evaluate stage and ``rstar evaluate`` share this, so that their figures are comparable. The search runs without the
verifier, as at inference. Afterwards its chosen answer is graded, and every other answer until a correct one is found
(*any*: pass@N of the trajectories found).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb, sqrt
from typing import Any, Final

from rstar.interfaces import Verifier
from rstar.problem import Problem
from rstar.record import SearchRecord

Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """One problem under one method. ``any``: some trajectory is correct. A failed search counts as a wrong answer."""

    problem_id: str
    correct: bool
    any: bool
    tokens: int
    nodes: int = 0
    error: str = ""
    scored: int = 0


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two methods on the same problems: how many only one of them answers right, and McNemar's exact p-value.

    ``better``: problems that only this method answers right; ``worse``: those that only the ``baseline`` does. ``p`` is
    two-sided: the probability of so uneven a split, or a more uneven one, if both methods were equally good.
    """

    baseline: str
    better: int
    worse: int
    p: float


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One row of the table: shares of the problems with 95 % intervals, and means per problem.

    ``scored``: candidate steps scored by the PPM, which cost a forward pass each and appear in no token count.
    ``paired``: the comparison with the first method, None for that one.
    """

    name: str
    problems: int
    accuracy: float
    low: float
    high: float
    any: float
    any_low: float
    any_high: float
    tokens: float
    nodes: float
    scored: float
    errors: int
    paired: PairedTest | None = None

    def metrics(self) -> dict[str, Any]:
        """Return the row as a manifest's metrics keep it: shares to 4 decimals, means to 1."""
        digits = {"tokens": 1, "nodes": 1, "scored": 1}
        return {k: round(v, digits.get(k, 4)) if isinstance(v, float) else v for k, v in asdict(self).items()}


def wilson(successes: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (E. B. Wilson, 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mcnemar(baseline: str, before: Sequence[ProblemResult], after: Sequence[ProblemResult]) -> PairedTest:
    """Compare two methods on the same problems, in the same order, by McNemar's exact test (Q. McNemar, 1947).

    Only problems on which they differ count: under equal methods each of these is a fair coin.
    """
    better = sum(b.correct and not a.correct for a, b in zip(before, after, strict=True))
    worse = sum(a.correct and not b.correct for a, b in zip(before, after, strict=True))
    differ = better + worse
    tail = sum(comb(differ, k) for k in range(min(better, worse) + 1))
    return PairedTest(baseline, better, worse, round(min(1.0, 2 * tail / 2**differ), 6))


def compared(results: Mapping[str, Sequence[ProblemResult]]) -> list[MethodSummary]:
    """Return a row per method, each but the first with its comparison to the first."""
    rows = [summarise(name, some) for name, some in results.items()]
    first = next(iter(results), "")
    return [
        replace(row, paired=mcnemar(first, results[first], results[row.name])) if row.name != first else row
        for row in rows
    ]


async def grade(problem: Problem, record: SearchRecord, verifier: Verifier) -> ProblemResult:
    """Grade the chosen answer, and every other one until a correct one is found; each distinct answer once."""
    verdicts: dict[str, bool] = {}

    async def is_correct(answer: str) -> bool:
        if answer not in verdicts:
            verdicts[answer] = (await verifier.verify(problem, answer)).correct
        return verdicts[answer]

    answers = [record.nodes[position].answer for position in record.terminals()]
    chosen = record.nodes[record.chosen].answer if record.chosen >= 0 else None
    correct = chosen is not None and await is_correct(chosen)
    found = correct
    for answer in answers:
        if found:
            break
        found = answer is not None and await is_correct(answer)
    usage = record.usage
    return ProblemResult(problem.id, correct, found, usage.tokens, usage.nodes, record.error, usage.scored)


def summarise(name: str, results: Sequence[ProblemResult]) -> MethodSummary:
    """Return the row of one method."""
    count = len(results)
    correct, found = sum(r.correct for r in results), sum(r.any for r in results)
    low, high = wilson(correct, count)
    any_low, any_high = wilson(found, count)
    per_problem = 1 / count if count else 0.0
    return MethodSummary(
        name=name,
        problems=count,
        accuracy=correct * per_problem,
        low=low,
        high=high,
        any=found * per_problem,
        any_low=any_low,
        any_high=any_high,
        tokens=sum(r.tokens for r in results) * per_problem,
        nodes=sum(r.nodes for r in results) * per_problem,
        scored=sum(r.scored for r in results) * per_problem,
        errors=sum(bool(r.error) for r in results),
    )

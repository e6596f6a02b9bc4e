"""SFT examples: the best correct trajectories of each problem (section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from rstar.config import Settings
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.seeds import derive
from rstar.selection.difficulty import correct_share
from rstar.trajectory import code_of, written_by_policy

_Q_DIGITS: Final = 9
"""Q values that differ by less are equal: sums of the same rewards in another order differ in their last bits."""


_COMMENT: Final = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#.*""")
"""A string, which may contain the sign of a comment, or a comment."""


class SftRules(Settings):
    """The rules by which trajectories are kept. The defaults are the paper's."""

    trajectories_per_problem: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Correct trajectories kept per problem, by mean step Q; then by the lowest step Q, different programs first.",
    )
    min_correct_share_synthetic: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Synthetic problems with a smaller share of correct trajectories are dropped.",
    )


@dataclass(frozen=True, slots=True)
class SftExample:
    """One trajectory to imitate. ``steps`` are raw texts; the prompt is ``prompt.render_prompt(question)``."""

    problem_id: str
    question: str
    steps: tuple[str, ...]
    mean_q: float

    def segments(self) -> list[tuple[str, bool]]:
        """Return (text, trained) pieces in order: the loss skips the outputs, which the system inserted."""
        return [segment for step in self.steps for segment in written_by_policy(step)]


def sft_examples(
    problem: Problem, record: SearchRecord, rules: SftRules | None = None, *, seed: int = 0
) -> list[SftExample]:
    """Return the correct trajectories with the highest mean step Q, best first; equal texts count once.

    Of trajectories with the same mean, those with the highest lowest step Q are taken, then those whose code differs
    most from the code of the trajectories taken before, then those that ``seed`` (the round's) draws: in a problem that
    is always solved every Q is 1. The order of the nodes and of the texts has no influence.

    A synthetic problem whose trajectories are mostly wrong is dropped: its reference answer is suspect.
    """
    rules = rules or SftRules()
    if problem.synthetic and correct_share(record) < rules.min_correct_share_synthetic:
        return []
    ranks: dict[tuple[str, ...], tuple[float, float]] = {}
    means: dict[tuple[str, ...], float] = {}
    for terminal in (i for i in record.terminals() if record.nodes[i].correct):
        steps, mean = tuple(record.steps(terminal)), mean_q(record, terminal)
        rank = round(mean, _Q_DIGITS), round(lowest_q(record, terminal), _Q_DIGITS)
        if steps not in ranks or rank > ranks[steps]:
            ranks[steps], means[steps] = rank, mean
    code = {steps: _code_lines(steps) for steps in ranks} if len(ranks) > 1 else {}
    draw = {steps: derive(seed, "sft", problem.id, *steps) for steps in ranks}
    novelty = dict.fromkeys(ranks, 1.0)
    picked: list[tuple[str, ...]] = []
    while novelty and len(picked) < rules.trajectories_per_problem:
        best = max(novelty, key=lambda steps: (ranks[steps], novelty[steps], draw[steps]))
        picked.append(best)
        del novelty[best]
        for steps in novelty:
            novelty[steps] = min(novelty[steps], _difference(code[steps], code[best]))
    return [SftExample(problem.id, problem.question, steps, means[steps]) for steps in picked]


def mean_q(record: SearchRecord, terminal: int) -> float:
    """Return the mean of Q(s) over the steps of a trajectory, its terminal included."""
    path = record.path(terminal)
    return sum(record.nodes[i].q for i in path) / len(path)


def lowest_q(record: SearchRecord, terminal: int) -> float:
    """Return the lowest Q(s) of the steps of a trajectory, its terminal included."""
    return min(record.nodes[i].q for i in record.path(terminal))


def _code_lines(steps: Sequence[str]) -> frozenset[str]:
    """Return the lines of a trajectory's program, without comments and spaces.

    Only an approximation of Python's syntax is needed, and a parser would take most of the time of the select stage.
    """
    program = _COMMENT.sub(lambda match: match[1] or "", code_of(steps))
    return frozenset(line for text in program.splitlines() if (line := "".join(text.split())))


def _difference(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of the lines of two programs that only one of them has (Jaccard distance), in [0, 1]."""
    return 1 - len(a & b) / len(a | b) if a or b else 0.0

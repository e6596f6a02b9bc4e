"""SFT examples: the best correct trajectories of each problem (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from rstar.config import Settings
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.selection.difficulty import correct_share
from rstar.trajectory import written_by_policy


class SftRules(Settings):
    """The rules by which trajectories are kept. The defaults are the paper's."""

    trajectories_per_problem: int = Field(
        default=2, ge=1, le=64, description="Correct trajectories kept per problem, by mean step Q."
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


def sft_examples(problem: Problem, record: SearchRecord, rules: SftRules | None = None) -> list[SftExample]:
    """Return the correct trajectories with the highest mean step Q, best first; equal texts count once.

    A synthetic problem whose trajectories are mostly wrong is dropped: its reference answer is suspect.
    """
    rules = rules or SftRules()
    if problem.synthetic and correct_share(record) < rules.min_correct_share_synthetic:
        return []
    ranked = sorted(
        (SftExample(problem.id, problem.question, tuple(record.steps(i)), mean_q(record, i)) for i in _correct(record)),
        key=lambda example: (-example.mean_q, example.steps),
    )
    distinct = {example.steps: example for example in reversed(ranked)}
    return sorted(distinct.values(), key=lambda example: (-example.mean_q, example.steps))[
        : rules.trajectories_per_problem
    ]


def mean_q(record: SearchRecord, terminal: int) -> float:
    """Return the mean of Q(s) over the steps of a trajectory, its terminal included."""
    path = record.path(terminal)
    return sum(record.nodes[i].q for i in path) / len(path)


def _correct(record: SearchRecord) -> list[int]:
    return [i for i in record.terminals() if record.nodes[i].correct]

"""The result of ``rstar.Solver``: the chosen trajectory with its scores and its cost, and the whole record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.record import SearchRecord, Usage
from rstar.trajectory import code_of


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trajectory.

    ``text``: as the policy wrote it, with the markers and what the system inserted; ``code``: its part of the program;
    ``output``: what the program printed, at the step that finished it; ``score``: the PPM's, None without one;
    ``q`` and ``visits``: the mean reward and the number of rollouts through it; ``tokens``: generated for it.
    """

    text: str
    code: str
    output: str
    score: float | None
    q: float
    visits: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Solution:
    """A finished search of one problem.

    ``answer`` is None when no trajectory reached one, and then ``trajectory`` is empty. ``score``: the PPM's of the chosen
    trajectory. ``verdict``: on the answer, where the expected one is known. ``record``: all trees.
    """

    problem: Problem
    answer: str | None
    trajectory: tuple[Step, ...]
    score: float | None
    verdict: Verdict | None
    usage: Usage
    seed: int
    record: SearchRecord = field(repr=False)

    @property
    def question(self) -> str:
        """The question."""
        return self.problem.question

    @property
    def correct(self) -> bool | None:
        """Whether the answer is the expected one; None where none was given, or where there is no answer to judge."""
        return None if self.verdict is None else self.verdict.correct

    @property
    def tokens(self) -> int:
        """The tokens that the whole search generated."""
        return self.usage.tokens

    @property
    def program(self) -> str:
        """The program of the chosen trajectory; '' without one."""
        return code_of([step.text for step in self.trajectory]).strip("\n")

    @property
    def output(self) -> str:
        """What the program of the chosen trajectory printed."""
        return next((step.output for step in reversed(self.trajectory) if step.output), "")

    def __str__(self) -> str:
        if self.answer is None:
            return f"{self.question}\n(no trajectory reached an answer)"
        return f"{self.question}\n\n{self.program}\n\n{self.output}\nanswer: {self.answer}"

    def _repr_html_(self) -> str:
        """Return the solution as HTML, for a notebook. All texts are escaped: a question or a model may write HTML."""
        rows = "".join(_html_row(number, step) for number, step in enumerate(self.trajectory, 1))
        table = f"<table><tr>{''.join(f'<th>{name}</th>' for name in _COLUMNS)}</tr>{rows}</table>" if rows else ""
        judged = ""
        if self.verdict is not None:
            judged = f" ({'correct' if self.verdict.correct else 'wrong'}: {escape(self.verdict.reason)})"
        answer = "no trajectory reached an answer" if self.answer is None else f"answer <b>{escape(self.answer)}</b>"
        usage = self.usage
        cost = f"{usage.nodes:,} nodes, {usage.tokens:,} generated tokens, {usage.executions:,} programs run"
        question = f"<p><b>{escape(self.question)}</b></p>"
        return f"<div>{question}{table}<p>{answer}{judged}</p><p>{cost}</p></div>"


_COLUMNS = ("step", "code", "output", "PPM score", "Q", "visits", "tokens")


def _html_row(number: int, step: Step) -> str:
    score = "" if step.score is None else f"{step.score:+.3f}"
    shown = step.code or step.text
    texts = "".join(
        f'<td style="text-align:left"><pre style="white-space:pre-wrap">{escape(text)}</pre></td>'
        for text in (shown, step.output)
    )
    figures = "".join(f"<td>{figure}</td>" for figure in (score, f"{step.q:+.3f}", step.visits, step.tokens))
    return f"<tr><td>{number}</td>{texts}{figures}</tr>"


def solution_of(
    problem: Problem, record: SearchRecord, scores: Sequence[float] | None, verdict: Verdict | None, seed: int
) -> Solution:
    """Return the solution of a record. ``scores``: the PPM's of each step; None: those in the record, where it has any."""
    chosen = record.nodes[record.chosen] if record.chosen >= 0 else None
    path = record.path(record.chosen) if chosen is not None else []
    steps = []
    for place, position in enumerate(path):
        node = record.nodes[position]
        steps.append(
            Step(
                text=node.text,
                code=code_of([node.text]).strip("\n"),
                output=node.output,
                score=node.score if scores is None else scores[place],
                q=node.q,
                visits=node.visits,
                tokens=node.tokens,
            )
        )
    return Solution(
        problem=problem,
        answer=chosen.answer if chosen is not None else None,
        trajectory=tuple(steps),
        score=chosen.score if chosen is not None else None,
        verdict=verdict,
        usage=record.usage,
        seed=seed,
        record=record,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one question of ``solve_many``: a ``solution``, or the ``error`` that ended its search.

    ``index``: its position among the questions, from 0.
    """

    index: int
    question: str
    solution: Solution | None
    error: Exception | None

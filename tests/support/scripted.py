"""A toy problem with a known best answer, for searches without models: digits that must add up to a target.

Each step is ``x += d``: the policy proposes digits, the executor adds them up, and the PPM scores the distance of the
sum from the target. All results depend on the arguments and the seed alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionLimits,
    ExecutionStatus,
    Proposal,
    Sampling,
    Scores,
    State,
    Verdict,
)
from rstar.problem import Problem
from rstar.seeds import derive
from rstar.trajectory import CODE, END_OF_ANSWER, END_OF_CODE, END_OF_STEP, PROGRAM_STOPS

DEPTH = 4


def total(steps: Sequence[str]) -> int:
    """Return the sum of the digits in ``steps``."""
    return sum(int(digit) for step in steps for digit in re.findall(r"x \+= (\d)", step))


def step(position: int, digit: int) -> str:
    """Return the step that adds ``digit`` as number ``position`` (from 0) of ``DEPTH``."""
    start = f"{CODE}\nx = 0\n" if position == 0 else "\n"
    return f"{start}x += {digit}\n" + (END_OF_STEP if position < DEPTH - 1 else f"print(x)\n{END_OF_CODE}")


class DigitPolicy:
    """Proposes digits drawn from the seed, as steps or, with the stops of whole programs, as whole programs."""

    def __init__(self, tokens: int = 3, broken_every: int = 0) -> None:
        self.tokens = tokens
        self.broken_every = broken_every
        self.calls = 0

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        self.calls += 1
        candidates = []
        for k in range(n):
            draw = derive(seed, k)
            if state.steps and END_OF_CODE in state.steps[-1]:
                text = f"<answer>\\boxed{{{total(state.steps)}}}{END_OF_ANSWER}"
            elif sampling.stop == PROGRAM_STOPS:
                text = "".join(step(i, derive(draw, i) % 10) for i in range(DEPTH))
            elif self.broken_every and draw % self.broken_every == 0:
                text = f"\nboom {draw}\n{END_OF_STEP}"
            else:
                text = step(len(state.steps), 0 if sampling.temperature == 0 else draw % 10)
            candidates.append(Candidate(text, self.tokens))
        return Proposal(tuple(candidates), "digits")


class SumExecutor:
    """Runs the toy programs by adding their digits; ``boom`` is their only error."""

    async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
        return [
            Execution(ExecutionStatus.EXCEPTION, "", "NameError: boom")
            if "boom" in candidate
            else Execution(ExecutionStatus.OK, f"{total([*state.steps, candidate])}\n" if "print" in candidate else "")
            for candidate in candidates
        ]


class ClosenessModel:
    """A PPM that knows the target: the closer to it the final sum can be, the higher the score."""

    def __init__(self, target: int) -> None:
        self.target = target

    async def score(self, state: State, candidates: Sequence[str]) -> Scores:
        values = []
        for candidate in candidates:
            left = DEPTH - len(state.steps) - 1
            gap = self.target - total([*state.steps, candidate])
            missed = max(0, -gap, gap - 9 * left)
            values.append(1 - missed / 18)
        return Scores(tuple(values), "closeness")

    async def score_steps(self, state: State) -> Scores:
        before = (replace(state, steps=state.steps[:i]) for i in range(len(state.steps)))
        each = [await self.score(part, [step]) for part, step in zip(before, state.steps, strict=True)]
        return Scores(tuple(value for scores in each for value in scores.values), "closeness")


class SumVerifier:
    """Compares the answer with the problem's."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        return Verdict(answer.strip() == problem.answer, f"{answer.strip()} against {problem.answer}")

"""The strictest verifier: the answer must have the characters of the reference, white space aside."""

from __future__ import annotations

from rstar.interfaces import Verdict
from rstar.problem import Problem


class ExactVerifier:
    """Compares texts in which every run of white space counts as one space."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer`` against ``problem.answer``."""
        if problem.answer is None:
            return Verdict(False, "the problem has no reference answer")
        if answer.split() == problem.answer.split():
            return Verdict(True, "the same text as the reference")
        return Verdict(False, "another text than the reference")

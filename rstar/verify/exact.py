"""The strictest verifier: the answer is the reference, character for character, white space aside."""

from __future__ import annotations

from rstar.interfaces import Verdict
from rstar.problem import Problem


class ExactVerifier:
    """Compares texts after trimming them and taking every run of white space as one space."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer`` against ``problem.answer``."""
        if problem.answer is None:
            return Verdict(False, "the problem has no reference answer")
        if answer.split() == problem.answer.split():
            return Verdict(True, "the same text as the reference")
        return Verdict(False, "another text than the reference")

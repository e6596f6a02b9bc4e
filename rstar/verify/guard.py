"""A guard around every verifier: an exception or a hang becomes a wrong answer with that reason.

Not covered: a verifier that blocks the event loop. Code that may hang belongs in a process, as in ``verify.math``.
"""

from __future__ import annotations

import asyncio

from rstar.interfaces import Verdict, Verifier
from rstar.problem import Problem


class Guarded:
    """A verifier whose failures are wrong answers with a reason."""

    def __init__(self, inner: Verifier, deadline: float | None) -> None:
        self._inner = inner
        self._deadline = deadline

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer``; it is wrong after ``deadline`` seconds or when the verifier raises."""
        clock = asyncio.timeout(self._deadline)
        try:
            async with clock:
                return await self._inner.verify(problem, answer)
        except Exception as error:
            if clock.expired():
                return Verdict(False, f"the verifier did not finish within {self._deadline:g} s")
            return Verdict(False, f"the verifier failed: {type(error).__name__}: {error}")

    async def close(self) -> None:
        """End the verifier's processes, if it has any."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            await close()

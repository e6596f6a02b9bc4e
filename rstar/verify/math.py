r"""The default verifier: an answer is correct when it is proved equal to the reference as mathematics.

Both texts are normalised (``equality.normalise``: wrappers, Unicode, markdown, trailing punctuation) and read by strict
parsers as LaTeX, as plain text and as what Python prints. What they mean is compared, never evaluated as code:

================== ============================================== ==========================================
kind               equal                                          not equal
================== ============================================== ==========================================
numbers            ``1,234`` ``1234``; ``\frac12`` ``0.5``        ``999,1000`` ``9991000``; ``1.6e-19`` ``9.1e-19``
decimals           ``\frac13`` ``0.333333``; ``\sqrt2``           ``\frac13`` ``0.333``; ``0`` ``0.0000001``
                   ``1.41421356``; see ``equality.numbers``
percent            ``50\%`` ``50`` and ``0.5``                    ``5\%`` ``0.5``
units              ``5 \text{ cm}`` ``5``; ``\$5`` ``5 dollars``  ``5 cm`` ``5 m``: no unit is converted
expressions        ``(x+1)^2`` ``x^2+2x+1``; ``2*I`` ``2i``       ``2n`` ``2k``; ``x_1`` ``x``; ``\sqrt{x^2}`` ``x``
equations          ``x=5`` ``5``; ``y=2x+1`` ``2x-y+1=0``         ``2x+3=5`` ``5``; ``x^2-5x+6=0`` ``0``
lists              ``1,-2`` ``-2,1``; ``x=1, 4`` ``x=1 or x=4``   ``1,2`` ``1,2,3``; ``\pm 7`` ``7``
tuples             ``(1,4.5)`` ``(1,\frac92)``                    ``(2,1)`` ``(1,2)``
intervals          ``(0,8)`` ``0<x<8``                            ``(0,8]`` ``(0,8)``; ``[1,2]`` ``1,2``
matrices           element by element                             a row and a column
ratios and times   ``2:3`` ``2 : 3``                              ``10:30`` ``10.5``; ``8:40`` ``2:10``
bases              ``12_5`` ``12``                                ``12_5`` ``12_7``
words              ``red`` ``Red.``                               ``no`` ``on``; the letters ``A`` ``a``
================== ============================================== ==========================================

Two answers are equal in both directions, except that ``[1, 2]`` is a Python list where the reference is ``1,2``, and an
interval where it is the reference. Numbers, words and equal normal forms are decided at once; the rest is compared in
worker processes, which are killed at the deadline: threads cannot be killed. A comparison that hangs, raises, crashes
or uses all memory is a wrong answer with that reason. Not covered: finding the answer in a longer text.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify.equality.calculus import needs_library
from rstar.verify.equality.normalise import normalise
from rstar.verify.equality.quick import quick
from rstar.verify.worker import Worker

MAX_ANSWER_CHARACTERS = 2_000
COMPARE_SECONDS = 5.0

MAX_QUOTED = 60


class MathVerifier:
    """Compares by value; workers start at the first pair that ``quick`` cannot decide.

    ``seconds`` is the deadline of one comparison, without the wait for a free worker; ``workers`` is the number of
    comparisons at once. Safe to use from any event loop; ``close`` ends the workers, a later call starts new ones.
    """

    def __init__(self, seconds: float = COMPARE_SECONDS, workers: int | None = None) -> None:
        self._seconds = seconds
        self._size = workers or min(4, os.cpu_count() or 1)
        self._threads: ThreadPoolExecutor | None = None
        self._idle: dict[bool, list[Worker]] = {True: [], False: []}

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer`` against ``problem.answer``."""
        reference = problem.answer
        if reference is None:
            return Verdict(False, "the problem has no reference answer")
        if answer.strip() == reference.strip():
            return Verdict(True, "the same text as the reference")
        if not answer.strip():
            return Verdict(False, "the answer is empty")
        for name, text in (("answer", answer), ("reference", reference)):
            if len(text) > MAX_ANSWER_CHARACTERS:
                return Verdict(False, f"the {name} has {len(text):,} characters, more than {MAX_ANSWER_CHARACTERS:,}")
        gold, given = normalise(reference), normalise(answer)
        if (decided := quick(gold, given)) is not None:
            return _verdict(*decided, gold, given)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="math-verify")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._compare, gold, given)

    async def close(self) -> None:
        """End the workers when the running comparisons are done."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        for idle in self._idle.values():
            while idle:
                idle.pop().kill()

    def _compare(self, reference: str, answer: str) -> Verdict:
        """Compare in an idle worker or a new one; a worker that failed is not used again."""
        # Calculus has workers of its own: they take seconds to start, because they load sympy.
        calculus = needs_library(reference, answer)
        try:
            worker = self._idle[calculus].pop()
        except IndexError:
            # If this process is killed, the worker's own alarm ends a comparison that hangs.
            worker = Worker("rstar.verify.math_worker", str(self._seconds * 2), *["calculus"] * calculus)
        try:
            reply = worker.ask({"reference": reference, "answer": answer}, self._seconds)
        except TimeoutError:
            return Verdict(False, f"the comparison did not finish within {self._seconds:g} s")
        except EOFError:
            return Verdict(False, "the comparison crashed")
        self._idle[calculus].append(worker)
        return _verdict(bool(reply["correct"]), str(reply["reason"]), reference, answer)


def _verdict(correct: bool, reason: str, reference: str, answer: str) -> Verdict:
    return Verdict(correct, f"{reason}: {quoted(answer)} and {quoted(reference)}")


def quoted(text: str) -> str:
    """Return a text on one line, shortened for a reason."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."

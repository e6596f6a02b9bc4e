r"""The default verifier: equal to the reference as mathematics, judged by the ``math-verify`` library.

Covered: an answer that makes the library hang, raise, crash or use all memory is wrong, with that reason. Answers are
compared in worker processes, which are killed at the deadline: threads cannot be killed, and the library's own
timeouts need the main thread and do not interrupt a long power. Numbers in different bases are not equal: the library
itself drops subscripts. Not covered: the library's leniency (a percent sign counts as 1/100 or as nothing, units are
ignored).
"""

from __future__ import annotations

import asyncio
import os
import re
from concurrent.futures import ThreadPoolExecutor

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify.worker import Worker

MAX_ANSWER_CHARACTERS = 2_000
COMPARE_SECONDS = 5.0

_IN_BASE = re.compile(r"\s*\$?[0-9][0-9A-Z]*_\{?(?:\\text\{)?\s*([0-9]+)\s*\}*\$?\s*")


class MathVerifier:
    """Compares by value; workers start at the first answer that is not literally the reference.

    ``seconds`` is the deadline of one comparison, without the wait for a free worker; ``workers`` is the number of
    comparisons at once. Safe to use from any event loop; ``close`` ends the workers, a later call starts new ones.
    """

    def __init__(self, seconds: float = COMPARE_SECONDS, workers: int | None = None) -> None:
        self._seconds = seconds
        self._size = workers or min(4, os.cpu_count() or 1)
        self._threads: ThreadPoolExecutor | None = None
        self._idle: list[Worker] = []

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer`` against ``problem.answer``."""
        reference = problem.answer
        if reference is None:
            return Verdict(False, "the problem has no reference answer")
        if answer.strip() == reference.strip():
            return Verdict(True, "the same text as the reference")
        if not answer.strip():
            return Verdict(False, "the answer is empty")
        if len(answer) > MAX_ANSWER_CHARACTERS:
            return Verdict(False, f"the answer has {len(answer):,} characters, more than {MAX_ANSWER_CHARACTERS:,}")
        if different_bases(reference, answer):
            return Verdict(False, "a number in another base than the reference")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="math-verify")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._compare, reference, answer)

    async def close(self) -> None:
        """End the workers when the running comparisons are done."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        while self._idle:
            self._idle.pop().kill()

    def _compare(self, reference: str, answer: str) -> Verdict:
        """Compare in an idle worker or a new one; a worker that failed is not used again."""
        try:
            worker = self._idle.pop()
        except IndexError:
            # If this process is killed, the worker's own alarm ends a comparison that hangs.
            worker = Worker("rstar.verify.math_worker", str(self._seconds * 2))
        try:
            reply = worker.ask({"reference": reference, "answer": answer}, self._seconds)
        except TimeoutError:
            return Verdict(False, f"the comparison did not finish within {self._seconds:g} s")
        except EOFError:
            return Verdict(False, "the comparison crashed")
        self._idle.append(worker)
        return Verdict(bool(reply["correct"]), str(reply["reason"]))


def different_bases(reference: str, answer: str) -> bool:
    r"""Return whether both are numbers with a base (``52_8``, ``204_{5}``) and the bases differ."""
    bases = [match and match[1] for match in map(_IN_BASE.fullmatch, (reference, answer))]
    return None not in bases and bases[0] != bases[1]

r"""The worker process of ``verify.math``: compares answers with their references, one at a time.

    python -m rstar.verify.math_worker SECONDS [calculus]

It reads lines of ``{"reference": ..., "answer": ...}``, normalised, and writes lines of ``{"correct": ..., "reason":
...}``. It ends with its parent: at the end of its input, or by an alarm after ``SECONDS`` of one comparison.
With ``calculus`` it loads ``math-verify`` and sympy, for sums, integrals and limits.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys

from rstar.verify.equality.calculus import same_by_library
from rstar.verify.equality.compare import compare

MEMORY_BYTES = 2 << 30
RECURSION_LIMIT = 5_000
"""For a sum of some hundred terms, which is a tree as deep."""


def judge(reference: str, answer: str, *, calculus: bool) -> tuple[bool, str]:
    """Return whether two normalised texts are equal, and why."""
    correct, reason = compare(reference, answer)
    if calculus and not correct:
        return same_by_library(reference, answer)
    return correct, reason


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.setrecursionlimit(RECURSION_LIMIT)
    logging.disable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # What the library prints must not be mixed into the replies.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    seconds, calculus = float(sys.argv[1]), "calculus" in sys.argv
    if calculus:
        same_by_library("1", "1.0")  # loads the library before the first deadline starts
    print("ready", file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            correct, reason = judge(request["reference"], request["answer"], calculus=calculus)
        except Exception as error:
            correct, reason = False, f"the comparison failed: {type(error).__name__}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({"correct": correct, "reason": reason}), file=replies)


if __name__ == "__main__":
    main()

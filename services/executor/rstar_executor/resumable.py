"""Which programs may go on from a snapshot: those whose end does not depend on when and where their steps ran.

A fork copies memory, not what lies outside it: a clock goes on while an interpreter rests, and mappings and directories
are shared with the copy. What a process holds is checked when it wants to rest (descriptors, threads, children,
timers, files); what cannot be seen from outside is looked for in the text. The check may err on one side only: a program
taken for one that may not is run from its start, with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CLOCKS = (
    r"time|datetime|timeit|calendar|zoneinfo|asyncio|sched|resource|profile|cProfile|uuid|secrets|tempfile|logging"
)
_SHARED = r"mmap|ctypes|cffi|multiprocessing|concurrent|subprocess|shelve|dbm|sqlite3"
_IMPORT = rf"^[^\n#]*\b(?:import|from)\b[^\n]*\b(?:{_CLOCKS}|{_SHARED})\b"
_WORDS = r"\b(?:__import__|importlib|perf_counter\w*|datetime64|clock_gettime|register_at_fork|memmap|__future__|pythonapi)\b"
_DOUBTFUL = re.compile(rf"{_IMPORT}|{_WORDS}", re.MULTILINE)
_INSEPARABLE = re.compile(r"__future__|^global\s", re.MULTILINE)


def resumable(text: str) -> bool:
    """Say whether an interpreter that ran ``text`` may rest and be forked."""
    return _DOUBTFUL.search(text) is None


def separable(step: str) -> bool:
    """Say whether ``step`` leaves alone how the other steps of its program are read."""
    return _INSEPARABLE.search(step) is None


def pieces(steps: Sequence[str]) -> list[str]:
    """Return ``steps`` as they are compiled: one by one, or as one text where one changes how the others are read."""
    return list(steps) if all(map(separable, steps)) else ["".join(steps)]

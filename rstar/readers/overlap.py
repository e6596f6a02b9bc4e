"""Problems of an evaluation that are also in the training data, so that their accuracy would be too high.

Three kinds are found: the same game (numbers and target), the same text apart from case, punctuation and spacing, and a
common run of 13 words, the rule of GPT-3's contamination study (Brown et al., 2020, appendix C). Not covered: reworded
problems, and texts of fewer than 13 words that differ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rstar.problem import Problem

WORDS: Final = 13

Kind = Literal["numbers", "text", "13-gram"]

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training problem and the held-out problem that it overlaps with."""

    training_id: str
    held_out_id: str
    kind: Kind


def overlaps(training: Iterable[Problem], held_out: Sequence[Problem]) -> list[Overlap]:
    """Return at most one overlap per training problem, in order; the strictest kind counts."""
    kinds: tuple[Kind, ...] = ("numbers", "text", "13-gram")
    known: dict[tuple[Kind, str], str] = {}
    for problem in held_out:
        for key in _keys(problem):
            known.setdefault(key, problem.id)
    found = []
    for problem in training:
        hits = {kind: known[kind, text] for kind, text in _keys(problem) if (kind, text) in known}
        if hits:
            kind = next(kind for kind in kinds if kind in hits)
            found.append(Overlap(problem.id, hits[kind], kind))
    return found


def described(found: Sequence[Overlap], shown: int = 3) -> str:
    """Return the number of overlaps by kind, and the first of them, as text."""
    kinds = Counter(overlap.kind for overlap in found)
    counts = ", ".join(f"{kinds[kind]} by {kind}" for kind in sorted(kinds))
    pairs = ", ".join(f"{overlap.training_id} and {overlap.held_out_id}" for overlap in found[:shown])
    return f"{counts}: {pairs}{', ...' if len(found) > shown else ''}"


def _keys(problem: Problem) -> Iterator[tuple[Kind, str]]:
    numbers = problem.data.get("nums")
    if isinstance(numbers, list | tuple):
        # The question of a game is a template, so only its numbers tell games apart.
        yield "numbers", repr((sorted(map(str, numbers)), problem.data.get("target")))
        return
    words = _WORD.findall(problem.question.lower())
    yield "text", " ".join(words)
    yield from (("13-gram", " ".join(words[i : i + WORDS])) for i in range(len(words) - WORDS + 1))

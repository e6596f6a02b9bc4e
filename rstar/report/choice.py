"""Which problems the page shows in full: the same ones in every round and under every method, so that they compare.

Pure, and decided before any tree is read: memory holds only the trees that are shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence


def shown_problems(outcomes: Mapping[str, Sequence[bool]], limit: int) -> list[str]:
    """Return at most ``limit`` problem ids, the most instructive first. ``outcomes``: right or not, per round and method.

    Three groups take turns: problems that some rounds or methods solve and others do not (the most even first), those
    that nothing solves, and those that everything solves. Equal ones are ordered by a hash of the id, so that the
    choice does not depend on the order of the problems.
    """
    mixed, never, always = [], [], []
    for problem_id, some in outcomes.items():
        if not any(some):
            never.append(problem_id)
        elif all(some):
            always.append(problem_id)
        else:
            mixed.append(problem_id)

    def unevenness(problem_id: str) -> float:
        some = outcomes[problem_id]
        return abs(sum(some) / len(some) - 0.5)

    groups = [
        sorted(mixed, key=lambda i: (unevenness(i), _rank(i))),
        sorted(never, key=_rank),
        sorted(always, key=_rank),
    ]
    return list(_in_turn(groups))[:limit]


def within_budget(sizes: Iterable[tuple[str, int]], budget: int) -> set[str]:
    """Return the problem ids to keep: the first ones whose trees together have at most ``budget`` bytes.

    ``sizes``: (problem id, bytes of one of its trees), in the order of the choice. A problem is kept with all of its
    trees or not at all; one that is too large is skipped, and smaller ones after it are still kept.
    """
    by_problem: dict[str, int] = {}
    for problem_id, size in sizes:
        by_problem[problem_id] = by_problem.get(problem_id, 0) + size
    kept, left = set[str](), budget
    for problem_id, size in by_problem.items():
        if size <= left:
            kept.add(problem_id)
            left -= size
    return kept


def _in_turn(groups: Sequence[Sequence[str]]) -> Iterable[str]:
    for number in range(max(map(len, groups), default=0)):
        for group in groups:
            if number < len(group):
                yield group[number]


def _rank(problem_id: str) -> str:
    return hashlib.sha256(problem_id.encode()).hexdigest()

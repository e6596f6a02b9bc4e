"""The pairs of a selection with whole trajectories, to compare them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rstar.selection import PairGroup


@dataclass(frozen=True, slots=True)
class WholePair:
    """A pair of a group, with what both sides share in each of them."""

    problem_id: str
    question: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    margin: float
    weight: float
    final: bool


def whole_pairs(groups: Iterable[PairGroup]) -> list[WholePair]:
    """Return the pairs of all groups, in order."""
    return [
        WholePair(
            group.problem_id,
            group.question,
            (*group.prefix, *group.right[good].steps),
            (*group.prefix, *group.wrong[bad].steps),
            group.right[good].q - group.wrong[bad].q,
            group.weight,
            group.is_final(good, bad),
        )
        for group in groups
        for good, bad in group.pairs
    ]

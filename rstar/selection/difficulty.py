"""The difficulty of a problem for the policy that searched it (section 3.3)."""

from __future__ import annotations

from enum import StrEnum

from rstar.record import SearchRecord


class Difficulty(StrEnum):
    """Easy: every trajectory is correct; hard: none is; medium: in between."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


def correct_share(record: SearchRecord) -> float:
    """Return the share of correct trajectories among those with an answer; 0 when there are none."""
    verdicts = [bool(record.nodes[i].correct) for i in record.terminals()]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def difficulty(record: SearchRecord) -> Difficulty:
    """Classify the problem by the share of its correct trajectories."""
    share = correct_share(record)
    if share == 0.0:
        return Difficulty.HARD
    return Difficulty.EASY if share == 1.0 else Difficulty.MEDIUM

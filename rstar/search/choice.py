"""The answer that a search gives, chosen among its final trajectories (section 4.1).

N trajectories are N searches (trees), and each gives one: its best by the PPM. Of these the highest score decides, or
with ``vote_top`` a majority among the K with the highest scores. A sampling method's samples are its trajectories.
Equal answers (``1/2``, ``0.5``) count as one in a vote. Without scores all trajectories vote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rstar.config import SearchConfig
from rstar.record import NodeRecord, SearchRecord

Same = Callable[[str, str], Awaitable[bool]]
"""Tells whether two answers are equal."""

MAX_COMPARISONS: Final = 256
"""Comparisons of answers per search: each may take seconds. After them only equal texts count as one."""

TREE_METHODS: Final = ("mcts", "beam")


@dataclass(frozen=True, slots=True)
class FinalTrajectory:
    """A trajectory that may be chosen: its terminal's position, and how many trajectories it stands for."""

    position: int
    votes: int
    score: float | None


async def chosen_by(record: SearchRecord, config: SearchConfig, same: Same | None) -> SearchRecord:
    """Return ``record`` with the chosen terminal; the answers are compared only if they are put to a vote."""
    answers = [record.nodes[i].answer or "" for i in record.terminals()]
    groups = await group_answers(answers, same) if votes(record.nodes, config) else {}
    return replace(record, chosen=choose(record.nodes, config, groups))


async def group_answers(answers: Sequence[str], same: Same | None) -> dict[str, int]:
    """Return the number of each answer's group; equal answers share one.

    Each distinct text is compared with one answer of every group, at most ``MAX_COMPARISONS`` times in all.
    """
    groups: dict[str, int] = {}
    first: list[str] = []
    compared = 0
    for answer in answers:
        text = answer.strip()
        if text in groups:
            continue
        for number, known in enumerate(first):
            if same is None or compared == MAX_COMPARISONS:
                break
            compared += 1
            if await same(known, text):
                groups[text] = number
                break
        if text not in groups:
            groups[text] = len(first)
            first.append(text)
    return groups


def votes(rows: Sequence[NodeRecord], config: SearchConfig) -> bool:
    """Return whether the answers are put to a vote."""
    scored = any(row.score is not None for row in rows if row.terminal and row.answer is not None)
    return config.method == "majority" or config.vote_top is not None or not scored


def choose(rows: Sequence[NodeRecord], config: SearchConfig, groups: Mapping[str, int]) -> int:
    """Return the position of the chosen terminal, or -1 where no trajectory has an answer.

    ``groups`` numbers the groups of equal answers, by stripped text; needed where the answers are put to a vote.
    """
    final = final_trajectories(rows, config, groups)
    if not final:
        return -1
    ranked = sorted(final, key=_rank)
    if not votes(rows, config):
        return ranked[0].position
    if config.vote_top is not None and config.method != "majority":
        ranked = _first(ranked, config.vote_top)
    return _majority(rows, ranked, groups).position


def final_trajectories(
    rows: Sequence[NodeRecord], config: SearchConfig, groups: Mapping[str, int]
) -> list[FinalTrajectory]:
    """Return each tree's trajectory, or with a sampling method every sample; identical samples are one with as many votes."""
    by_tree: dict[int, list[FinalTrajectory]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row.terminal and row.answer is not None:
            by_tree[row.tree].append(FinalTrajectory(position, row.visits, row.score))
    if config.method not in TREE_METHODS:
        return [trajectory for trajectories in by_tree.values() for trajectory in trajectories]
    return [replace(_best(rows, trajectories, groups), votes=1) for trajectories in by_tree.values()]


def _best(
    rows: Sequence[NodeRecord], trajectories: list[FinalTrajectory], groups: Mapping[str, int]
) -> FinalTrajectory:
    """Return a tree's own choice: the highest score, or without scores the answer with the most visits."""
    scored = [trajectory for trajectory in trajectories if trajectory.score is not None]
    return min(scored, key=_rank) if scored else _majority(rows, trajectories, groups)


def _majority(
    rows: Sequence[NodeRecord], trajectories: Sequence[FinalTrajectory], groups: Mapping[str, int]
) -> FinalTrajectory:
    """Return the best trajectory of the group with the most votes; among equal groups the one with the best trajectory."""
    by_group: dict[int, list[FinalTrajectory]] = defaultdict(list)
    for trajectory in sorted(trajectories, key=_rank):
        by_group[groups.get((rows[trajectory.position].answer or "").strip(), -1)].append(trajectory)
    winner = max(by_group.values(), key=lambda group: sum(trajectory.votes for trajectory in group))
    return winner[0]


def _first(ranked: Sequence[FinalTrajectory], count: int) -> list[FinalTrajectory]:
    """Return the first ``count`` trajectories, identical samples counted singly."""
    taken: list[FinalTrajectory] = []
    for trajectory in ranked:
        left = count - sum(each.votes for each in taken)
        if left <= 0:
            break
        taken.append(replace(trajectory, votes=min(trajectory.votes, left)))
    return taken


def _rank(trajectory: FinalTrajectory) -> tuple[float, int]:
    """Sort by score, best first, then by position; a trajectory without a score comes last."""
    return (-trajectory.score if trajectory.score is not None else float("inf"), trajectory.position)

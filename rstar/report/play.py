"""The order in which a search grew its trees, as far as the record tells it. Pure.

A record is depth first and siblings are in the order of their creation; it holds neither rollout numbers nor the
search's settings. An MCTS without progressive widening is deterministic, so its rollouts can be replayed with UCT
(equation 1) under the usual settings. They are shown when the replay ends in exactly the recorded N and q of every node
after the recorded number of rollouts, and when all settings that do so agree on the order. This is a reconstruction: a
search with widening may have had another order with the same result. Otherwise the trajectories are shown one by one in
recorded order, and are not called rollouts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

from rstar.record import NodeRecord, SearchRecord
from rstar.search.tree import Node, backup, close, select_child

EXPLORATIONS: Final = (2.0, math.sqrt(2.0), 1.0, 0.3)
"""Values of the exploration constant that are tried. The record does not hold the constant."""

REPLAYED_NODES: Final = 5_000
"""Larger records are not replayed: it would take seconds."""


@dataclass(frozen=True, slots=True)
class Play:
    """Turns, numbered from 1. ``first``: by node, the turn in which it appears (0: a root). ``ends``: by turn, its last node.

    ``kind``: ``rollouts`` of an MCTS, replayed and checked, or ``trajectories`` in recorded order.
    """

    kind: Literal["rollouts", "trajectories"]
    first: list[int]
    ends: list[int]


def played(record: SearchRecord) -> Play:
    """Return the rollouts, where they follow from the record; else its trajectories."""
    return _rollouts(record) or trajectories(record)


def trajectories(record: SearchRecord) -> Play:
    """Return the paths from a root to a leaf in recorded order; a node appears with the first path through it."""
    nodes = record.nodes
    parents = {node.parent for node in nodes}
    first = [0] * len(nodes)
    ends: list[int] = []
    for leaf, node in enumerate(nodes):
        if leaf in parents or node.parent < 0:
            continue
        ends.append(leaf)
        for position in record.path(leaf):
            first[position] = first[position] or len(ends)
    return Play("trajectories", first, ends)


def _rollouts(record: SearchRecord) -> Play | None:
    if record.error or len(record.nodes) > REPLAYED_NODES or not _may_be_mcts(record):
        return None
    modes: tuple[Literal["first", "zero"], ...] = ("first", "zero")
    found = [play for c, mode in product(EXPLORATIONS, modes) if (play := _replayed(record, c, mode)) is not None]
    return found[0] if found and all(play == found[0] for play in found) else None


def _may_be_mcts(record: SearchRecord) -> bool:
    """Return False for sampled solutions, which count tokens at the leaves only, and for a single path."""
    rows = record.nodes
    parents = [row.parent for row in rows if row.parent >= 0]
    return len(set(parents)) < len(parents) and all(row.tokens for row in rows if row.valid and row.parent >= 0)


def _replayed(record: SearchRecord, exploration: float, unvisited: Literal["first", "zero"]) -> Play | None:
    """Return the rollouts of a search without widening under these settings; None when N or q come out otherwise."""
    rows = record.nodes
    below: list[list[int]] = [[] for _ in rows]
    roots = [position for position, row in enumerate(rows) if row.parent < 0]
    for position, row in enumerate(rows):
        if row.parent >= 0:
            below[row.parent].append(position)
    first = [0] * len(rows)
    ends: list[int] = []
    grown: dict[int, Node] = {}
    for root in roots:
        grown[root] = Node()
        place = {id(grown[root]): root}
        while not grown[root].closed and len(ends) < record.usage.rollouts:
            node: Node | None = grown[root]
            last, expanded = root, False
            while node is not None:
                last = place[id(node)]
                if node.children is None and below[last]:
                    node.children = [Node(node) for _ in below[last]]
                    expanded = node.exhausted = True
                    for child, position in zip(node.children, below[last], strict=True):
                        place[id(child)], grown[position] = position, child
                        first[position] = len(ends) + 1
                        _begin(child, rows[position])
                    for child, position in zip(node.children, below[last], strict=True):
                        _reward(child, rows[position])
                best = select_child(node, exploration, unvisited)
                if best is None and node.exhausted:
                    close(node)
                node = best
            if not expanded:  # nothing of the record is left for this tree: its search ended here
                break
            ends.append(last)
    same = len(grown) == len(rows) and all(
        grown[i].visits == row.visits and math.isclose(grown[i].value, row.value, abs_tol=1e-9)
        for i, row in enumerate(rows)
    )
    return Play("rollouts", first, ends) if same and len(ends) == record.usage.rollouts else None


def _begin(node: Node, row: NodeRecord) -> None:
    """Apply N and q of a new step (section 3.2): -1 of a failed one, the PPM's score, or nothing yet."""
    if not row.valid:
        node.visits, node.value = 1, -1.0
        close(node)
    elif not row.terminal and row.score is not None:
        node.visits, node.value = 1, row.score
    elif not row.terminal and row.reason:
        node.visits, node.value = 1, -1.0


def _reward(node: Node, row: NodeRecord) -> None:
    """Back up the reward of a new terminal: its verdict, else the PPM's score (equation 2)."""
    if row.valid and row.terminal:
        backup(node, row.score or 0.0 if row.correct is None else 1.0 if row.correct else -1.0)
        close(node)

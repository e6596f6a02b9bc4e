"""The trees that go into the page, packed as they are read and bounded by a number of bytes."""

from __future__ import annotations

from typing import Any

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.choice import within_budget
from rstar.report.data import ROLLOUT, TreeKey
from rstar.report.trees import mark, tree_entry
from rstar.rounds.evaluation import ProblemResult


class Shelf:
    """Collects the trees of the problems that the page shows; ``add`` is the ``keep_tree`` of ``collect``."""

    def __init__(self) -> None:
        self._trees: list[tuple[int, bool, dict[str, Any]]] = []

    def add(
        self, key: TreeKey, rank: int, problem: Problem, record: SearchRecord, result: ProblemResult | None
    ) -> None:
        """Pack one tree."""
        round_name, source, _ = key
        right = mark(record, None if result is None else result.correct)
        self._trees.append((rank, source == ROLLOUT, tree_entry(round_name, source, problem, record, right=right)))

    def within(self, budget: int) -> tuple[list[dict[str, Any]], int]:
        """Return the entries of the first problems whose data have at most ``budget`` bytes, and how many are left out.

        Held-out and training problems take turns, so that both are there.
        """
        in_turn = sorted(self._trees, key=lambda item: (item[0], item[1]))
        kept = within_budget(((entry["problem"]["id"], len(entry["data"])) for _, _, entry in in_turn), budget)
        entries = [entry for _, _, entry in in_turn if entry["problem"]["id"] in kept]
        return entries, len(self._trees) - len(entries)

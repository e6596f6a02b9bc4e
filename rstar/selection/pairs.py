"""Preference pairs for the PPM: of two steps, the one that leads to a correct answer is preferred (section 3.3).

Step pairs share their prefix; the final-answer rule pairs whole trajectories. A pair is *final* when one of its steps
ends a trajectory: an answer, with its program's output before it, is easier to judge than an inner step. Only problems
with both correct and wrong trajectories give pairs. Q values only rank the steps: the PPM learns the order, not the values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from pydantic import Field

from rstar.config import Settings
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.selection.sft import mean_q


class PairRules(Settings):
    """The rules by which steps and trajectories are paired. The defaults are the paper's."""

    positives: int = Field(default=2, ge=1, le=16, description="Positive steps per node for preference pairs.")
    negatives: int = Field(default=2, ge=1, le=16, description="Negative steps per node for preference pairs.")
    final_trajectories: int = Field(
        default=2,
        ge=0,
        le=16,
        description="Right, and as many wrong, trajectories per problem that the final-answer rule pairs; 0 makes no such pairs.",
    )
    min_visits: int = Field(default=1, ge=1, description="Visits an inner child needs before its Q counts in a pair.")
    min_margin: float = Field(
        default=0.0, ge=0, le=2, description="Pairs whose Q differ by less are dropped (the release uses 0.5)."
    )
    min_edit_distance: int = Field(
        default=0, ge=0, description="Pairs whose texts differ by fewer characters are dropped (the release uses 20)."
    )


@dataclass(frozen=True, slots=True)
class Continuation:
    """The steps that follow a group's prefix; ``q`` ranks them, and ``terminal`` ones end a trajectory."""

    steps: tuple[str, ...]
    q: float
    terminal: bool


@dataclass(frozen=True, slots=True)
class PairGroup:
    """The pairs of one node, or those of the final-answer rule: the steps that they share are there once.

    ``pairs`` are positions in ``right`` and in ``wrong``; a side has only continuations that a pair needs. The right one of a
    pair is preferred. Both are whole partial trajectories after the prefix, scored at their last token.
    """

    problem_id: str
    question: str
    prefix: tuple[str, ...]
    right: tuple[Continuation, ...]
    wrong: tuple[Continuation, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def weight(self) -> float:
        """The weight of each pair: one over their number, so that every node counts once (equation 4)."""
        return 1 / len(self.pairs)

    def is_final(self, right: int, wrong: int) -> bool:
        """Return whether a side of a pair ends a trajectory."""
        return self.right[right].terminal or self.wrong[wrong].terminal


def pair_groups(problem: Problem, record: SearchRecord, rules: PairRules | None = None) -> list[PairGroup]:
    """Return the preference pairs of one searched problem by node, in tree order; the final-answer rule's come last."""
    rules = rules or PairRules()
    terminals = list(record.terminals())
    correct = [i for i in terminals if record.nodes[i].correct]
    wrong = [i for i in terminals if record.nodes[i].correct is False]
    if not correct or not wrong:
        return []
    to_correct, to_wrong = _ancestors(record, correct), _ancestors(record, wrong)
    children: dict[int, list[int]] = defaultdict(list)
    for i, node in enumerate(record.nodes):
        if node.parent >= 0:
            children[node.parent].append(i)

    def settled(i: int) -> bool:
        """Whether Q(i) counts: it has enough visits, or all its children are terminals with known verdicts."""
        node = record.nodes[i]
        below = children[i]
        return (
            node.terminal
            or node.visits >= rules.min_visits
            or bool(below and all(record.nodes[k].terminal for k in below))
        )

    groups: list[PairGroup] = []
    for parent in sorted(children):
        counted = [i for i in children[parent] if record.nodes[i].valid and settled(i)]
        best = sorted((i for i in counted if i in to_correct), key=lambda i: -record.nodes[i].q)[: rules.positives]
        worst = sorted((i for i in counted if i in to_wrong and i not in best), key=lambda i: record.nodes[i].q)
        q = {i: record.nodes[i].q for i in (*best, *worst)}
        groups += _group(problem, record, best, worst[: rules.negatives], q, rules)

    q = {i: mean_q(record, i) for i in terminals}
    best = sorted(correct, key=lambda i: -q[i])[: rules.final_trajectories]
    worst = sorted(wrong, key=lambda i: q[i])[: rules.final_trajectories]
    return groups + _group(problem, record, best, worst, q, rules)


def _group(
    problem: Problem,
    record: SearchRecord,
    best: list[int],
    worst: list[int],
    q: dict[int, float],
    rules: PairRules,
) -> list[PairGroup]:
    """Pair every positive with every negative whose Q is lower by the margin and whose text differs enough."""
    kept = [
        (good, bad)
        for good in best
        for bad in worst
        if q[good] > q[bad]
        and q[good] - q[bad] >= rules.min_margin
        and _differ(record.nodes[good].text, record.nodes[bad].text, rules.min_edit_distance)
    ]
    if not kept:
        return []
    right, wrong = list(dict.fromkeys(good for good, _ in kept)), list(dict.fromkeys(bad for _, bad in kept))
    steps = {node: tuple(record.steps(node)) for node in (*right, *wrong)}
    shared = _shared(list(steps.values()))

    def continuations(nodes: list[int]) -> tuple[Continuation, ...]:
        return tuple(Continuation(steps[i][shared:], q[i], record.nodes[i].terminal) for i in nodes)

    return [
        PairGroup(
            problem.id,
            problem.question,
            steps[right[0]][:shared],
            continuations(right),
            continuations(wrong),
            tuple((right.index(good), wrong.index(bad)) for good, bad in kept),
        )
    ]


def _shared(trajectories: Sequence[tuple[str, ...]]) -> int:
    """Return how many first steps all trajectories have in common."""
    columns = zip(*trajectories, strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, trajectories)))


def _differ(a: str, b: str, distance: int) -> bool:
    """Say whether two texts differ by at least ``distance`` characters (inserted plus deleted)."""
    if distance <= 0:
        return True
    matching = sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    return len(a) + len(b) - 2 * matching >= distance


def _ancestors(record: SearchRecord, terminals: list[int]) -> set[int]:
    """Return all nodes on the paths from the root to ``terminals``, both ends included."""
    found: set[int] = set()
    for terminal in terminals:
        node = terminal
        while node >= 0 and node not in found:
            found.add(node)
            node = record.nodes[node].parent
    return found

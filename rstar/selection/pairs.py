"""Preference pairs for the PPM: which of two steps leads to a right answer (section 3.3).

Step pairs share their prefix; the final-answer rule pairs whole trajectories. Only problems with both right
and wrong trajectories give pairs. It refuses to score steps: Q values rank, the PPM learns the order.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.selection.sft import mean_q


@dataclass(frozen=True, slots=True)
class PairRules:
    """Which pairs are made. The defaults are the paper's; the release adds a margin of 0.5 and a distance of 20."""

    positives: int = 2
    negatives: int = 2
    final_trajectories: int = 2
    min_visits: int = 1
    min_margin: float = 0.0
    min_edit_distance: int = 0


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """``chosen`` is preferred to ``rejected``; both are whole partial trajectories, scored at their last token.

    ``weight`` is 1/(|positives| |negatives|) of its group, so that every node counts once (equation 4).
    ``final`` marks pairs of the final-answer rule, whose prefixes differ.
    """

    problem_id: str
    question: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    margin: float
    weight: float
    final: bool


def preference_pairs(problem: Problem, record: SearchRecord, rules: PairRules | None = None) -> list[PreferencePair]:
    """Return the preference pairs of one searched problem, in tree order."""
    rules = rules or PairRules()
    terminals = list(record.terminals())
    right = [i for i in terminals if record.nodes[i].correct]
    wrong = [i for i in terminals if record.nodes[i].correct is False]
    if not right or not wrong:
        return []
    leads_right, leads_wrong = _ancestors(record, right), _ancestors(record, wrong)
    children: dict[int, list[int]] = defaultdict(list)
    for i, node in enumerate(record.nodes):
        if node.parent >= 0:
            children[node.parent].append(i)

    def settled(i: int) -> bool:
        """Whether Q(i) means something: enough visits, or everything right below it is a known verdict."""
        node = record.nodes[i]
        below = children[i]
        return (
            node.terminal
            or node.visits >= rules.min_visits
            or bool(below and all(record.nodes[k].terminal for k in below))
        )

    pairs: list[PreferencePair] = []
    for parent in sorted(children):
        known = [i for i in children[parent] if record.nodes[i].valid and settled(i)]
        best = sorted((i for i in known if i in leads_right), key=lambda i: -record.nodes[i].q)[: rules.positives]
        worst = sorted((i for i in known if i in leads_wrong and i not in best), key=lambda i: record.nodes[i].q)
        q = {i: record.nodes[i].q for i in (*best, *worst)}
        pairs += _pairs(problem, record, best, worst[: rules.negatives], q, rules, final=False)

    q = {i: mean_q(record, i) for i in terminals}
    best = sorted(right, key=lambda i: -q[i])[: rules.final_trajectories]
    worst = sorted(wrong, key=lambda i: q[i])[: rules.final_trajectories]
    return pairs + _pairs(problem, record, best, worst, q, rules, final=True)


def _pairs(
    problem: Problem,
    record: SearchRecord,
    best: list[int],
    worst: list[int],
    q: dict[int, float],
    rules: PairRules,
    *,
    final: bool,
) -> list[PreferencePair]:
    """Pair every positive with every negative that is worse by the margin and written differently enough."""
    kept = [
        (good, bad)
        for good in best
        for bad in worst
        if q[good] > q[bad]
        and q[good] - q[bad] >= rules.min_margin
        and _differ(record.nodes[good].text, record.nodes[bad].text, rules.min_edit_distance)
    ]
    return [
        PreferencePair(
            problem.id,
            problem.question,
            tuple(record.steps(good)),
            tuple(record.steps(bad)),
            q[good] - q[bad],
            1 / len(kept),
            final,
        )
        for good, bad in kept
    ]


def _differ(a: str, b: str, distance: int) -> bool:
    """Say whether two texts differ by at least ``distance`` characters (inserted plus deleted)."""
    if distance <= 0:
        return True
    matching = sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    return len(a) + len(b) - 2 * matching >= distance


def _ancestors(record: SearchRecord, terminals: list[int]) -> set[int]:
    """Return every node on a path from the root to one of ``terminals``, the terminals included."""
    found: set[int] = set()
    for terminal in terminals:
        node = terminal
        while node >= 0 and node not in found:
            found.add(node)
            node = record.nodes[node].parent
    return found

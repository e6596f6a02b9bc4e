"""Figures from search records: pure sums that are added up record by record, so that memory does not grow with a store."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.report.data import (
    ROLLOUT,
    CalibrationBin,
    DifficultyFigures,
    MethodFigures,
    PpmFigures,
    Share,
    TreeFigures,
)
from rstar.rounds.evaluation import ProblemResult, compared, summarise, wilson
from rstar.rounds.pair_accuracy import PAIR_ACCURACY, PAIR_ACCURACY_LOW, PAIRS, PROBLEMS, SCORE_GAP
from rstar.selection.difficulty import Difficulty

Q_BINS: Final = 20
SCORE_BINS: Final = 10
CURVE_POINTS: Final = 60
_REASON_LENGTH: Final = 60
_EXCEPTION: Final = re.compile(r"exception: ([\w.]+)")

CalibrationKind = Literal["answers", "trajectories", "steps"]


def share(right: int, total: int) -> Share:
    """Return ``right`` of ``total`` with Wilson's 95 % interval."""
    low, high = wilson(right, total)
    return Share(right, total, right / total if total else 0.0, low, high)


def bin_of(value: float, bins: int) -> int:
    """Return the number of the bin of a value in [-1, 1] among ``bins`` equal ones; values outside are in the outer bins.

    >>> [bin_of(value, 20) for value in (-1.0, -0.95, 0.0, 0.999, 1.0, 7.0)]
    [0, 0, 10, 19, 19, 19]
    """
    return min(bins - 1, max(0, int((value + 1) / 2 * bins)))


def reason_group(reason: str) -> str:
    """Return the kind of a failure: an exception by its class, any other by the text before its colon.

    >>> reason_group("exception: ValueError: list.remove(x): x not in list (line 3)")
    'exception: ValueError'
    >>> reason_group("timeout: 10 s")
    'timeout'
    """
    found = _EXCEPTION.match(reason)
    return (f"exception: {found[1]}" if found else reason.partition(":")[0].strip() or "unknown")[:_REASON_LENGTH]


def answered_within(results: Sequence[ProblemResult], points: int = CURVE_POINTS) -> tuple[tuple[int, float], ...]:
    """Return (tokens, share of all problems that were answered right with at most so many tokens), at ``points`` or fewer.

    The last point has the tokens of the most expensive problem, and so the accuracy itself.
    """
    if not results:
        return ()
    right = sorted(result.tokens for result in results if result.correct)
    most = max(result.tokens for result in results)
    levels = sorted({0, *right, most})
    if len(levels) > points:
        levels = sorted({levels[round(i * (len(levels) - 1) / (points - 1))] for i in range(points)})
    return tuple((level, bisect_right(right, level) / len(results)) for level in levels)


def method_figures(results: Mapping[str, Sequence[ProblemResult]]) -> tuple[MethodFigures, ...]:
    """Return the figures of every method, in the order of the table; compared with the first where that is possible."""
    same = len({tuple(result.problem_id for result in some) for some in results.values()}) == 1
    rows = compared(results) if same else [summarise(name, some) for name, some in results.items()]
    return tuple(MethodFigures(row, answered_within(results[row.name])) for row in rows)


def difficulty_figures(classes: Mapping[str, str], first: Mapping[str, str]) -> DifficultyFigures:
    """Return the figures of a round. ``classes``: difficulty by problem id, here and in the first round."""
    counts = Counter(classes.values())
    covered: dict[str, list[bool]] = defaultdict(list)
    for problem_id, now in classes.items():
        if problem_id in first:
            covered[first[problem_id]].append(now != Difficulty.HARD)
    return DifficultyFigures(
        {kind.value: counts.get(kind.value, 0) for kind in Difficulty},
        {kind.value: share(sum(covered[kind.value]), len(covered[kind.value])) for kind in Difficulty},
    )


@dataclass(slots=True)
class _Bin:
    count: int = 0
    scores: float = 0.0
    right: float = 0.0

    def add(self, score: float, right: float) -> None:
        self.count += 1
        self.scores += score
        self.right += right


@dataclass
class Calibration:
    """Sums of scores and verdicts of one PPM, by kind and bin."""

    _bins: dict[CalibrationKind, list[_Bin]] = field(default_factory=dict)

    def add(self, kind: CalibrationKind, score: float, right: float) -> None:
        """Count one score. ``right``: whether it was correct, or the share that was."""
        bins = self._bins.setdefault(kind, [_Bin() for _ in range(SCORE_BINS)])
        bins[bin_of(score, SCORE_BINS)].add(score, right)

    def bins(self) -> tuple[CalibrationBin, ...]:
        """Return the bins that have scores."""
        width = 2 / SCORE_BINS
        found = []
        for kind, bins in self._bins.items():
            for number, one in enumerate(bins):
                if not one.count:
                    continue
                low, high = wilson(one.right, one.count)
                left = round(-1 + number * width, 6)
                found.append(
                    CalibrationBin(
                        kind,
                        left,
                        round(left + width, 6),
                        one.count,
                        one.scores / one.count,
                        one.right / one.count,
                        low,
                        high,
                    )
                )
        return tuple(found)


def add_to_calibration(
    calibration: Calibration, record: SearchRecord, source: str, result: ProblemResult | None
) -> None:
    """Count the scores of a record whose verdict is known.

    Of an evaluation only the answer given counts: only that one was always graded. Of a training search every
    trajectory counts, and every inner step with trajectories below it.
    """
    if source != ROLLOUT:
        chosen = record.nodes[record.chosen] if 0 <= record.chosen < len(record.nodes) else None
        if result is not None and chosen is not None and chosen.score is not None:
            calibration.add("answers", chosen.score, result.correct)
        return
    below: dict[int, list[bool]] = defaultdict(list)
    for position in record.terminals():
        node = record.nodes[position]
        if node.correct is None:
            continue
        if node.score is not None:
            calibration.add("trajectories", node.score, node.correct)
        for step in record.path(position)[:-1]:
            below[step].append(node.correct)
    for step, verdicts in below.items():
        score = record.nodes[step].score
        if score is not None:
            calibration.add("steps", score, sum(verdicts) / len(verdicts))


def ppm_figures(metrics: Mapping[str, Any], calibration: tuple[CalibrationBin, ...]) -> PpmFigures:
    """Return the figures of a PPM from the metrics of train-ppm."""

    def number(key: str) -> float | None:
        value = metrics.get(key)
        return float(value) if isinstance(value, (int, float)) else None

    return PpmFigures(
        accuracy=number(PAIR_ACCURACY),
        low=number(PAIR_ACCURACY_LOW),
        before=number("pair_accuracy_before"),
        with_final=number("pair_accuracy_with_final"),
        gap=number(SCORE_GAP),
        pairs=int(number(PAIRS) or 0),
        problems=int(number(PROBLEMS) or 0),
        calibration=calibration,
    )


@dataclass
class TreeTally:
    """The sums of one source of a round."""

    source: str
    problems: int = 0
    solved: int = 0
    searches_failed: int = 0
    usage: Usage = field(default_factory=Usage)
    failures: Counter[str] = field(default_factory=Counter)
    q: dict[str, list[int]] = field(default_factory=dict)

    def add(self, record: SearchRecord, result: ProblemResult | None = None) -> None:
        """Count one problem. ``result``: its row of an evaluation, whose trees hold no verdicts."""
        self.problems += 1
        self.solved += record.solved if result is None else result.any
        self.searches_failed += bool(record.error)
        self.usage += record.usage
        for position, node in enumerate(record.nodes):
            if not node.valid:
                self.failures[reason_group(node.reason)] += 1
            if node.visits and node.parent >= 0:
                right = result.correct if result is not None and position == record.chosen else node.correct
                bins = self.q.setdefault(_kind(node, right), [0] * Q_BINS)
                bins[bin_of(node.q, Q_BINS)] += 1

    def figures(self) -> TreeFigures:
        """Return the figures."""
        usage = self.usage
        return TreeFigures(
            source=self.source,
            problems=self.problems,
            solved=self.solved,
            searches_failed=self.searches_failed,
            rollouts=usage.rollouts,
            nodes=usage.nodes,
            tokens=usage.tokens,
            scored=usage.scored,
            q={kind: tuple(bins) for kind, bins in sorted(self.q.items())},
            failures=dict(self.failures.most_common()),
        )


def _kind(node: NodeRecord, right: bool | None) -> str:
    if not node.valid:
        return "failed"
    if not node.terminal:
        return "step"
    return "open" if right is None else "right" if right else "wrong"


def most_common(failures: Iterable[Mapping[str, int]], limit: int) -> list[str]:
    """Return the most frequent reasons of all, at most ``limit``, the most frequent first."""
    total: Counter[str] = Counter()
    for some in failures:
        total.update(some)
    return [reason for reason, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:limit]]

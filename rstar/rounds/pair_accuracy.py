"""The held-out pair accuracy of a PPM, with the lower bound that decides whether the PPM guides a search.

It is the share of pairs of inner steps whose better side scores higher, on problems of which neither the policy nor the
PPM has seen anything. Pairs of one problem share its question, their prefixes and its tree, so they are right or wrong
together: the bound counts them as one observation. Otherwise a few large trees would look like much evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from rstar.rounds.evaluation import wilson

PAIR_ACCURACY: Final = "pair_accuracy"
"""Key of the accuracy in the metrics of train-ppm; None where no pair was held out."""

PAIR_ACCURACY_LOW: Final = "pair_accuracy_low"
PAIRS: Final = "pairs_held_out_non_final"
PROBLEMS: Final = "problems_held_out_non_final"
SCORE_GAP: Final = "score_gap"
"""Key in the metrics of train-ppm: mean |r(y+) - r(y-)| of the same pairs, 0 to 2; None where no pair was held out.

Near 0 the PPM may rank steps, but its scores do not move a search, whose exploration term is larger.
"""

PAIR_FIGURES: Final = (PAIR_ACCURACY, PAIR_ACCURACY_LOW, PAIRS, PROBLEMS)

Z_ONE_SIDED_95: Final = 1.6448536269514722
"""One-sided, because only the lower bound decides: a PPM at the bar passes in at most 5 % of the rounds."""


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """``accuracy``: a share of ``pairs``, which come from ``problems``; ``low``: its 95 % lower bound."""

    accuracy: float
    low: float
    pairs: int
    problems: int

    def metrics(self) -> dict[str, Any]:
        """Return the entries of a manifest's metrics."""
        return {
            PAIR_ACCURACY: round(self.accuracy, 6),
            PAIR_ACCURACY_LOW: round(self.low, 6),
            PAIRS: self.pairs,
            PROBLEMS: self.problems,
        }

    def __str__(self) -> str:
        pairs, problems = _counted(self.pairs, "step pair"), _counted(self.problems, "problem")
        return f"{self.accuracy:.3f} on {pairs} of {problems}, 95 % lower bound {self.low:.3f}"


def pair_accuracy(hits: Iterable[tuple[str, bool]]) -> PairAccuracy | None:
    """Return the accuracy over (problem id, whether the better side scored higher); None without pairs.

    ``low`` is the lower end of Wilson's interval for n observations: the number of problems, or less where some have
    many more pairs than others. n = (sum of m)^2 / (sum of m^2) with m the pairs of a problem (L. Kish, 1965) is the
    worst case, in which all pairs of a problem are right or wrong together.
    """
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for problem_id, hit in hits:
        by_problem[problem_id].append(hit)
    if not by_problem:
        return None
    pairs = sum(map(len, by_problem.values()))
    accuracy = sum(map(sum, by_problem.values())) / pairs
    observations = pairs**2 / sum(len(some) ** 2 for some in by_problem.values())
    low, _ = wilson(accuracy * observations, observations, Z_ONE_SIDED_95)
    return PairAccuracy(accuracy, low, pairs, len(by_problem))


def read_pair_accuracy(metrics: Mapping[str, Any]) -> PairAccuracy | None:
    """Return what ``PairAccuracy.metrics`` wrote; None where nothing was measured."""
    found = [metrics.get(key) for key in PAIR_FIGURES]
    if not all(isinstance(value, (int, float)) for value in found):
        return None
    accuracy, low, pairs, problems = found
    return PairAccuracy(float(accuracy), float(low), int(pairs), int(problems))  # type: ignore[arg-type]


def problems_needed(measured: PairAccuracy, bar: float) -> int | None:
    """Return how many problems like the ``measured`` ones lift the lower bound of their accuracy to ``bar``; None: no number.

    Wilson's interval is the set of shares that the score test does not reject, so its lower end for n observations is at
    least ``bar`` exactly when (accuracy - bar)^2 >= z^2 bar (1 - bar) / n. The bound at hand tells in the same way how
    many observations the problems were.
    """
    accuracy, low = measured.accuracy, measured.low
    if accuracy <= bar:
        return None
    observations = max(1.0, _observations(accuracy, low))
    return ceil(measured.problems * max(1.0, _observations(accuracy, bar) / observations))


def _observations(accuracy: float, bound: float) -> float:
    """Return the number of observations for which ``bound`` is the lower end of Wilson's interval."""
    return Z_ONE_SIDED_95**2 * bound * (1 - bound) / (accuracy - bound) ** 2


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

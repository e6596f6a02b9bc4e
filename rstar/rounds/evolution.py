"""Whether an evolution goes on: pure functions on the statuses of its rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rstar.rounds.evolution_spec import LABEL, STOP_WHEN, StopWhen
from rstar.rounds.observed import Stage
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import Condition, RoundStatus

NOT_MADE: Final = "NotMade"
"""Reason of Ready of a round that no driver makes."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What a finished round reached: the share of solved training problems, and the accuracy of each method in order."""

    coverage: float | None
    accuracy: dict[str, float]


def rung(status: RoundStatus) -> Rung:
    """Return the figures of a finished round."""
    metrics = {stage.name: stage.metrics for stage in status.stages}
    coverage = metrics.get(Stage.ROLLOUT, {}).get("coverage")
    methods = metrics.get(Stage.EVALUATE, {}).get("methods") or ()
    return Rung(coverage, {method["name"]: method["accuracy"] for method in methods})


def not_made(reason: str, now: datetime) -> RoundStatus:
    """Return the status of a round that a rule to stop has made needless."""
    message = f"not made: {reason}"
    ready = Condition(type="Ready", status="False", reason=NOT_MADE, message=message, last_transition_time=now)
    return RoundStatus(phase="Waiting", message=message, conditions=(ready,))


def has_ended(status: RoundStatus) -> bool:
    """Return whether nothing more happens in a round."""
    ready = status.condition("Ready")
    return status.phase in {"Succeeded", "Failed"} or (ready is not None and ready.reason == NOT_MADE)


def not_needed(item: EvolutionRound, rounds: Sequence[EvolutionRound], statuses: Mapping[str, RoundStatus]) -> str:
    """Return why a round of an evolution is not made, given the ``statuses`` of its rounds; '' for one that is.

    ``rounds`` are in the order of their numbers. A round that belongs to no evolution is always made.
    """
    if LABEL not in item.metadata.labels:
        return ""
    earlier = [
        other.name
        for other in rounds
        if other.metadata.labels.get(LABEL) == item.metadata.labels[LABEL] and other.spec.round < item.spec.round
    ]
    done = [name for name in earlier if name in statuses and statuses[name].phase == "Succeeded"]
    rules = StopWhen.model_validate_json(item.metadata.annotations.get(STOP_WHEN, "{}"))
    return reason_to_stop(rules, [rung(statuses[name]) for name in done])


def reason_to_stop(rules: StopWhen, ladder: Sequence[Rung]) -> str:
    """Return why no further round follows the finished ones, as one sentence; '' to go on."""
    if len(ladder) < 2:
        return ""
    before, last = ladder[-2:]
    if rules.coverage_gain_below is not None and before.coverage is not None and last.coverage is not None:
        gain = last.coverage - before.coverage
        if gain < rules.coverage_gain_below:
            return f"the coverage rose by {gain:.4f}, and stopWhen.coverageGainBelow is {rules.coverage_gain_below:g}"
    if rules.accuracy_gain_below is not None and last.accuracy:
        method = rules.method or next(reversed(last.accuracy))
        if method in last.accuracy and method in before.accuracy:
            gain = last.accuracy[method] - before.accuracy[method]
            if gain < rules.accuracy_gain_below:
                return f"the accuracy of {method} rose by {gain:.4f}, and stopWhen.accuracyGainBelow is {rules.accuracy_gain_below:g}"
    return ""

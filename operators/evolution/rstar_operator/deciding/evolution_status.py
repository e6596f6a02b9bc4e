"""The status of an evolution, built in one place from all facts about it, and the Events that its changes are worth. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rstar.cluster.api import Json
from rstar.rounds.evolution_status import EvolutionPhase, EvolutionStatus, RungStatus
from rstar.rounds.status import Condition, ConditionStatus, RoundStatus, merge_conditions
from rstar_operator.deciding.events import WARNINGS, new_ready
from rstar_operator.deciding.write_failures import WriteFailure, failure_conditions

GONE: Final = "Deleted"
"""Phase of a round that the user has deleted, where a later one exists."""


@dataclass(frozen=True, slots=True)
class EvolutionFacts:
    """All that the status is built from; ``reason`` and ``message`` are those of Ready."""

    before: EvolutionStatus | None
    generation: int
    now: datetime
    phase: EvolutionPhase
    reason: str
    message: str
    ready: bool = False
    total: int = 0
    ladder: tuple[RungStatus, ...] = ()
    current: RoundStatus | None = None
    method: str | None = None
    failure: WriteFailure | None = None


def read_evolution_status(body: Json) -> EvolutionStatus | None:
    """Return the stored status; None when there is none yet."""
    status = body.get("status") or {}
    return EvolutionStatus.model_validate(status) if "phase" in status else None


def build_evolution_status(facts: EvolutionFacts) -> EvolutionStatus:
    """Build the status. A condition keeps its transition time unless its status changes."""
    current = facts.current
    stage = current.stage or "" if current is not None and facts.phase == "Running" else ""
    progress = current.progress_text if current is not None and facts.phase == "Running" else ""
    done = sum(one.phase in {"Succeeded", GONE} for one in facts.ladder)
    failed = failure_conditions(facts.before, facts.failure, facts.now)
    new = {c.type: c for c in (*_conditions(facts), *failed)}
    conditions = merge_conditions(facts.before.conditions if facts.before else (), new.values())
    return EvolutionStatus(
        observed_generation=facts.generation,
        phase=facts.phase,
        message=facts.failure.message if facts.failure is not None else facts.message,
        conditions=tuple(c.model_copy(update={"observed_generation": facts.generation}) for c in conditions),
        rounds=facts.ladder,
        rounds_text=f"{done}/{facts.total}" if facts.total else "",
        stage=stage,
        progress_text=progress,
        solved_percent=_percents([one.coverage for one in facts.ladder]),
        accuracy_percent=_percents([_accuracy(one, facts.method) for one in facts.ladder]),
    )


def _accuracy(one: RungStatus, method: str | None) -> float | None:
    """Return the accuracy of ``method``, or of the last method."""
    by_name = {item.name: item.accuracy for item in one.accuracy}
    return by_name.get(method or next(reversed(by_name), ""))


def _percents(values: Sequence[float | None]) -> str:
    return " ".join(f"{100 * value:.1f}" for value in values if value is not None)


def _conditions(facts: EvolutionFacts) -> Iterator[Condition]:
    def condition(kind: str, holds: bool, message: str) -> Condition:
        status: ConditionStatus = "True" if holds else "False"
        return Condition(type=kind, status=status, reason=facts.reason, message=message, last_transition_time=facts.now)

    yield condition("Ready", facts.ready, facts.message)
    for phase in ("Succeeded", "Failed", "Suspended"):
        yield condition(phase, facts.phase == phase, facts.message if facts.phase == phase else "")


def evolution_transitions(before: EvolutionStatus | None, after: EvolutionStatus) -> Iterator[tuple[str, str, str]]:
    """Yield (type, reason, message) of every round that is done and every new reason of Ready, for Events."""
    old = {one.name: one.phase for one in before.rounds} if before is not None else {}
    for one in after.rounds:
        if one.phase == "Succeeded" and old.get(one.name) != "Succeeded":
            reached = "" if one.coverage is None else f": solved {100 * one.coverage:.1f} % of the training problems"
            yield "Normal", "RoundDone", f"round {one.name} is done{reached}"
    now = new_ready(before, after)
    if now is not None and now.reason in _OWN_REASONS:
        yield "Warning" if now.reason in _WARNINGS else "Normal", now.reason, now.message


_WARNINGS: Final = WARNINGS | {"RoundFailed"}
_OWN_REASONS: Final = _WARNINGS | {"AllRoundsDone", "RoundStarting", "StoppedEarly", "Suspended"}
"""Reasons of Ready that get an Event; those of the round at work are the round's own Events."""

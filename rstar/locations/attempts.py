"""Which attempts of a round are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rstar.locations.location import AttemptName

if TYPE_CHECKING:
    from rstar.rounds.status import RoundStatus


def select_attempts(
    status: RoundStatus, stage: str | None, number: int | None, *, every: bool = False
) -> list[AttemptName]:
    """Return the attempts that the options name, oldest first.

    ``stage`` defaults to the stage that started last, ``number`` to the latest attempt; ``every``: all attempts.
    """
    started = sorted(status.attempts, key=lambda item: item.started_at)
    if every:
        return [AttemptName(item.stage, item.number) for item in started if stage in {None, item.stage}]
    stage = stage or (started[-1].stage if started else None)
    numbers = [item.number for item in started if item.stage == stage and number in {None, item.number}]
    return [AttemptName(stage, max(numbers))] if stage is not None and numbers else []

"""The interface to where rounds are: a store on this machine, or a namespace of a cluster.

The commands and ``rstar.Rounds`` use nothing else, so that they work alike in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from rstar.locations.errors import UnknownRoundError

if TYPE_CHECKING:
    from rstar.rounds.status import RoundStatus
    from rstar.store.store import Store

ServiceName = Literal["policy", "ppm", "search", "executor"]


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The result of a command: whether it ``changed`` anything, and one sentence for the user."""

    changed: bool
    message: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log; ``source`` names the log."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How logs are read.

    ``follow``: wait for new lines. ``last``: read only so many of the existing lines of each log; None: all.
    ``notify`` prints a remark for the user that is not part of a log.
    """

    follow: bool
    last: int | None
    notify: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AttemptName:
    """One attempt of a stage."""

    stage: str
    number: int


class Location(Protocol):
    """Rounds, and the operations on them. Every method raises ``RoundsError``."""

    description: str
    """Such as ``the store out`` or ``namespace lab``."""
    options: str
    """The options that lead a command here: ``--store out`` or ``-n lab``."""

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the status of every round by name, ordered by number."""
        ...

    def store(self) -> Store:
        """Open the store with the rounds' artefacts."""
        ...

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Return remarks about the rounds ``shown`` that their statuses do not contain."""
        ...

    def makes_rounds(self) -> bool:
        """Return whether an evolution here is at work, and may make a round that does not exist yet."""
        ...

    def is_driven(self) -> bool:
        """Return whether anything may still change the rounds: on this machine a driver, in a cluster the operator."""
        ...

    def artefacts(self, name: str) -> Store:
        """Open the store with the files of a round."""
        ...

    def submit(self, files: Sequence[Path], notify: Callable[[str], None]) -> dict[str, str]:
        """Submit the rounds of ``files``; return created, configured, unchanged or started for each round."""
        ...

    def suspend(self, name: str) -> ChangeResult:
        """Release all compute of a round until it is resumed."""
        ...

    def resume(self, name: str) -> ChangeResult:
        """Resume a suspended round."""
        ...

    def cancel(self, name: str) -> ChangeResult:
        """End a round permanently."""
        ...

    def attempt_log(self, name: str, attempt: AttemptName, options: LogOptions) -> Iterator[LogLine]:
        """Yield the log of an attempt, when following until the attempt ends. Raises ``LookupError`` without a log."""
        ...

    def service_log(self, name: str, service: ServiceName, options: LogOptions, *, every: bool) -> Iterator[LogLine]:
        """Yield the logs of a service that the round uses; ``every``: also of its earlier starts.

        Raises ``LookupError`` without a log.
        """
        ...


def find_round(location: Location, name: str, rounds: Mapping[str, RoundStatus]) -> RoundStatus:
    """Return one of ``rounds``. Raises ``UnknownRoundError`` that names the nearest."""
    if name not in rounds:
        from rstar.rounds.validation_errors import nearest

        hint = nearest(name, rounds) if rounds else "; it has no rounds"
        raise UnknownRoundError(f"there is no round {name!r} in {location.description}{hint}")
    return rounds[name]


def made_by_other_code(statuses: Mapping[str, RoundStatus], remedy: Callable[[str, str], str]) -> list[str]:
    """Return a sentence per round about the stages that another version of the code made.

    ``remedy`` returns how to make a stage of a round again.
    """
    from rstar.rounds.code_version import code_version

    own = code_version()
    notes = []
    for name, status in statuses.items():
        made = {stage.name: stage.code_version for stage in status.stages if stage.code_version not in {"", own}}
        if made:
            versions = ", ".join(sorted(set(made.values())))
            notes.append(
                f"round {name}: {', '.join(made)} made by other code ({versions}; this is {own}); "
                f"{remedy(name, next(iter(made)))}"
            )
    return notes

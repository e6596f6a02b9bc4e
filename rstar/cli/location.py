"""Where rounds are: a store on this machine or a namespace of a cluster, behind one small interface.

The commands know nothing else, so that they work alike in both. The module refuses to know how either does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from rstar.cli.errors import CommandError

if TYPE_CHECKING:
    from rstar.rounds.status import RoundStatus

ServiceName = Literal["policy", "ppm", "search", "executor"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command did: whether anything ``changed``, and one sentence."""

    changed: bool
    message: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log, and which log it is from."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How logs are read. ``last``: only so many lines of what is there. ``tell``: remarks that are no log."""

    follow: bool
    last: int | None
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AttemptName:
    """One attempt of a stage."""

    stage: str
    number: int


class Place(Protocol):
    """Rounds, and what can be done with them. Every method raises ``CommandError``."""

    words: str
    """Such as ``the store out`` or ``namespace lab``."""
    options: str
    """What leads a command there: ``--store out`` or ``-n lab``."""

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the status of every round by name, ordered by number."""
        ...

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Return what else there is to know about the rounds shown."""
        ...

    def submit(self, files: Sequence[Path], tell: Callable[[str], None]) -> dict[str, str]:
        """Hand the rounds of files over; return a word per round: created, configured, unchanged or started."""
        ...

    def suspend(self, name: str) -> Said:
        """Release all compute of a round until it is resumed."""
        ...

    def resume(self, name: str) -> Said:
        """Go on with a suspended round."""
        ...

    def cancel(self, name: str) -> Said:
        """End a round for good."""
        ...

    def attempt_log(self, name: str, attempt: AttemptName, reading: Reading) -> Iterator[LogLine]:
        """Yield the log of an attempt; to follow it is to wait for its end. Raises ``LookupError`` when it is gone."""
        ...

    def service_log(self, name: str, service: ServiceName, reading: Reading, *, every: bool) -> Iterator[LogLine]:
        """Yield the logs of a service of the round; ``every``: of those before, too. Raises ``LookupError``."""
        ...


def found_round(place: Place, name: str, rounds: Mapping[str, RoundStatus]) -> RoundStatus:
    """Return one of ``rounds``. Raises ``CommandError`` naming the nearest."""
    if name not in rounds:
        from rstar.rounds.validation_errors import nearest

        hint = nearest(name, rounds) if rounds else "; there is none at all"
        raise CommandError(f"there is no round {name!r} in {place.words}{hint}")
    return rounds[name]

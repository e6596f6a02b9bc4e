"""What the operator sees of one round: plain bodies, as the API server gave them. Nothing is decided on anything else.

Bodies may be older than what the API server holds now; every write is made so that this does no harm (see
``reconcile``). The module refuses to interpret the bodies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rstar.cluster.api import Json
from rstar_operator.children.identity import owned_by


@dataclass(frozen=True, slots=True)
class World:
    """A round and all that belongs to it. ``jobs`` and the services' parts are the round's own, by owner.

    ``pods`` are of the attempts and services, by label; ``executor`` is the Deployment of shared executors in the
    namespace; ``previous`` the round before, if it is there. ``cleanup`` is the Job that deletes artefacts.
    ``troubles`` says, by the name of a job, why its pods cannot be made. ``fleeting``: the operator's rights are objects
    of the round's own namespace, which may go before the round does.
    """

    round: Json
    jobs: tuple[Json, ...] = ()
    deployments: tuple[Json, ...] = ()
    services: tuple[Json, ...] = ()
    autoscalers: tuple[Json, ...] = ()
    progress: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    cleanup: Json | None = None
    executor: Json | None = None
    previous: Json | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    fleeting: bool = False

    @property
    def uid(self) -> str:
        """Which object of that name the round is."""
        uid: str = self.round["metadata"]["uid"]
        return uid


def owned(bodies: Iterable[Json], uid: str) -> tuple[Json, ...]:
    """Return what the round of ``uid`` owns, by name: a label alone may be anybody's."""
    return in_order(body for body in bodies if owned_by(body, uid))


def in_order(bodies: Iterable[Json]) -> tuple[Json, ...]:
    """Return bodies in the order of their names, so that equal worlds are equal."""
    return tuple(sorted(bodies, key=name_of))


def name_of(body: Json) -> str:
    """Return the name of an object."""
    name: str = body["metadata"]["name"]
    return name


def deleting(body: Json) -> bool:
    """Say whether the object is on its way out."""
    return "deletionTimestamp" in body["metadata"]


def parse_time(text: str) -> datetime:
    """Return a timezone-aware time. Raises ``ValueError`` for another format."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(time: datetime) -> str:
    """Return the time as the API server writes it, cut to seconds."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

"""Everything that is known of one round at one moment: plain bodies, as the API server gave them.

The bodies may be older than those that the API server holds now. Every write is made so that this does no harm (see
``reconcile``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from rstar.cluster.api import Json, Kind
from rstar_operator.children.identity import owned_by

JobState = Literal["queued", "pending", "running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The job of an attempt as its backend reads it.

    ``since``: when it entered its state. ``started``: when it began to run or to wait. ``stop_patch``: the patch that
    ends the pods of a job that is over; None when they end without it. ``deletion_patch``: the patch without which the
    job's controller may create pods while the job is being deleted; None where it does not. ``runtime``: the name of the
    TrainingRuntime that the job uses; '' for none.
    """

    kind: Kind
    state: JobState
    since: datetime
    started: datetime
    message: str = ""
    stop_patch: Json | None = None
    deletion_patch: Json | None = None
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class RoundSnapshot:
    """A round and all that belongs to it.

    The cache fills in the bodies. ``jobs``, the TrainingRuntimes that some jobs need, and the parts of services are owned
    by the round; ``pods`` are those of its attempts and services, by label. ``other_progress`` are the reports of jobs
    that are not among ``jobs``, such as those of another training backend. ``executor`` is the Deployment of shared executors in the namespace, ``previous``
    the previous round if it exists, ``cleanup`` the Job that deletes artefacts. ``rights_in_namespace``: the operator's
    rights are objects of the round's own namespace, which may be deleted before the round. ``without_keda``: the API
    server has no ScaledObjects.

    The reconciler adds ``job_states``, by name of the job, and ``creation_failures``: why the pods of a job cannot be
    created, by name of the job.
    """

    round: Json
    jobs: tuple[Json, ...] = ()
    runtimes: tuple[Json, ...] = ()
    deployments: tuple[Json, ...] = ()
    services: tuple[Json, ...] = ()
    autoscalers: tuple[Json, ...] = ()
    scaled_objects: tuple[Json, ...] = ()
    progress: tuple[Json, ...] = ()
    other_progress: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    cleanup: Json | None = None
    executor: Json | None = None
    previous: Json | None = None
    rights_in_namespace: bool = False
    without_keda: bool = False
    job_states: Mapping[str, JobSeen] = field(default_factory=dict)
    creation_failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """The uid of the round: a new round of the same name has another one."""
        uid: str = self.round["metadata"]["uid"]
        return uid


@dataclass(frozen=True, slots=True)
class EvolutionSnapshot:
    """An evolution and the rounds of its namespace that have the name of one of its rounds, or its label."""

    evolution: Json
    rounds: tuple[Json, ...] = ()


def owned(bodies: Iterable[Json], uid: str) -> tuple[Json, ...]:
    """Return the bodies that the round of ``uid`` owns, by name. A label alone may be on anybody's object."""
    return in_order(body for body in bodies if owned_by(body, uid))


def in_order(bodies: Iterable[Json]) -> tuple[Json, ...]:
    """Return bodies in the order of their names, so that equal snapshots compare equal."""
    return tuple(sorted(bodies, key=name_of))


def name_of(body: Json) -> str:
    """Return the name of an object."""
    name: str = body["metadata"]["name"]
    return name


def deleting(body: Json) -> bool:
    """Return whether the object is being deleted."""
    return "deletionTimestamp" in body["metadata"]


def parse_time(text: str) -> datetime:
    """Return a timezone-aware time. Raises ``ValueError`` for another format."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(time: datetime) -> str:
    """Return the time as the API server writes it, cut to seconds."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

"""The writes that carry out a plan, in order: plain data, each harmless when it is made twice or too late.

A create names its object by what it is; a delete names the very object; nothing that exists is made again. What
an interrupted pass left undone shows in the world, so that the next pass goes on from there. The module refuses to
make the writes (see ``reconcile``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from rstar.cluster.api import AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, SERVICES, Json, Kind
from rstar.rounds.observed import Action, AttemptState, Stage, StartService, StartStage, StopService
from rstar.rounds.status import AttemptStatus, RoundStatus
from rstar_operator.backend import TrainingBackend
from rstar_operator.children.attempt import attempt_pods, progress_map
from rstar_operator.children.deployment import autoscaler, deployment, headless_service, service_size
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.observing.attempts import Key, key_of
from rstar_operator.observing.services import Parts, parts
from rstar_operator.snapshot import World, deleting, name_of


@dataclass(frozen=True, slots=True)
class Create:
    """Make this object, unless it is there."""

    kind: Kind
    body: Json


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete this very object. ``foreground``: it stays visible until its pods are gone."""

    kind: Kind
    name: str
    uid: str
    foreground: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge this into the object."""

    kind: Kind
    name: str
    body: Json


Write = Create | Delete | Patch


def writes(
    owner: Owner,
    configuration: Configuration,
    backend: TrainingBackend,
    actions: Iterable[Action],
    status: RoundStatus,
    world: World,
    now: datetime,
) -> list[Write]:
    """Return what to write after ``status`` is stored; ``actions`` are the planner's."""
    found = {service.ref: service for service in parts(world)}
    made: list[Write] = []
    stopped = set()
    for action in actions:
        if isinstance(action, StartService):
            made += _missing_parts(owner, configuration, action, found.get(action.ref))
        elif isinstance(action, StopService) and action.ref in found:
            stopped.add(action.ref)
            made += _removal(found[action.ref])
        elif isinstance(action, StartStage):
            made.append(Create(backend.kind, backend.manifest(owner, attempt_pods(owner, configuration, action))))
    for service in found.values():
        if service.ref not in stopped:
            made += _sizing(owner, service)
    made += _of_attempts(owner, backend, status, world, now)
    return made


def next_expiry(owner: Owner, status: RoundStatus, world: World, now: datetime) -> timedelta | None:
    """Return how long until the next finished attempt is cleared away; None when none is left."""
    kept = {key_of(job) for job in world.jobs}
    times = [expiry - now for key, expiry in _expiries(owner, status) if key in kept]
    return max(min(times), timedelta()) if times else None


def _missing_parts(
    owner: Owner, configuration: Configuration, action: StartService, there: Parts | None
) -> Iterator[Write]:
    if there is None or there.service is None:
        yield Create(SERVICES, headless_service(owner, action.ref))
    if there is None or there.deployment is None:
        yield Create(DEPLOYMENTS, deployment(owner, configuration, action.ref))


def _removal(service: Parts) -> Iterator[Write]:
    kinds = (
        (AUTOSCALERS, service.autoscaler, False),
        # Until its pods are gone the next model may find no room.
        (DEPLOYMENTS, service.deployment, True),
        (SERVICES, service.service, False),
    )
    for kind, body, foreground in kinds:
        if body is not None and not deleting(body):
            yield Delete(kind, name_of(body), body["metadata"]["uid"], foreground)


def _sizing(owner: Owner, service: Parts) -> Iterator[Write]:
    """Keep the size of a running service what the round says now."""
    if service.deployment is None or any(deleting(body) for body in service.bodies()):
        return
    wanted, there = autoscaler(owner, service.ref), service.autoscaler
    if wanted is not None and there is None:
        yield Create(AUTOSCALERS, wanted)
    elif wanted is not None and there is not None and _sizes(there) != _sizes(wanted):
        yield Patch(AUTOSCALERS, name_of(there), {"spec": wanted["spec"]})
    elif wanted is None and there is not None:
        yield Delete(AUTOSCALERS, name_of(there), there["metadata"]["uid"])
    elif wanted is None and service.deployment["spec"].get("replicas") != service_size(owner, service.ref).size:
        size = service_size(owner, service.ref).size
        yield Patch(DEPLOYMENTS, name_of(service.deployment), {"spec": {"replicas": size}})


def _sizes(body: Json) -> tuple[int, int, int]:
    spec = body["spec"]
    percent = spec["metrics"][0]["resource"]["target"]["averageUtilization"]
    return spec["minReplicas"], spec["maxReplicas"], percent


def _of_attempts(
    owner: Owner, backend: TrainingBackend, status: RoundStatus, world: World, now: datetime
) -> Iterator[Write]:
    records = {(Stage(r.stage), r.number): r for r in status.attempts}
    expired = {key for key, expiry in _expiries(owner, status) if expiry <= now}
    reported = {key_of(body) for body in world.progress}
    for job in world.jobs:
        key, record = key_of(job), records.get(key_of(job))
        if deleting(job):
            continue
        if key in expired or (record is not None and _is_ending(record)):
            yield Delete(backend.kind, name_of(job), job["metadata"]["uid"], foreground=True)
            continue
        if record is not None and record.finished_at is not None and (patch := backend.release(job)) is not None:
            yield Patch(backend.kind, name_of(job), patch)
        if key not in reported:
            yield Create(CONFIG_MAPS, progress_map(owner, job))


def _is_ending(record: AttemptStatus) -> bool:
    return record.ending is not None and AttemptState(record.state) is not AttemptState.SUCCEEDED


def _expiries(owner: Owner, status: RoundStatus) -> Iterator[tuple[Key, datetime]]:
    """Yield when each finished attempt's pods and logs may go; only what the stored status tells of is over."""
    kept = timedelta(seconds=owner.round.spec.lifecycle.ttl_seconds)
    for record in status.attempts:
        if record.finished_at is not None:
            yield (Stage(record.stage), record.number), record.finished_at + kept

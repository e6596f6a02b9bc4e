"""The writes that carry out a plan, in order: plain data, each harmless when it is made twice or too late.

The name of a created object follows from what the object is; a delete names the uid; nothing that exists is created
again. Writes that an interrupted pass left out are found missing by the next pass, which makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rstar.cluster.api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    SERVICES,
    TRAINING_RUNTIMES,
    Json,
    Kind,
)
from rstar.rounds.observed import Action, AttemptState, Stage, StartService, StartStage, StopService
from rstar.rounds.status import AttemptStatus
from rstar_operator.children.attempt import AttemptPods, attempt_pods, progress_map
from rstar_operator.children.autoscaler import autoscaler
from rstar_operator.children.deployment import deployment, headless_service, service_size
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.observing.attempts import AttemptKey, key_of
from rstar_operator.observing.services import ServiceObjects, service_objects
from rstar_operator.snapshot import RoundSnapshot, deleting, name_of


@dataclass(frozen=True, slots=True)
class Create:
    """Create this object, unless it exists. ``dry_run``: only ask whether the API server would accept it.

    ``too_early``: words of a refusal after which the pass is made again soon, because a webhook has not seen the object
    created before this one yet; '' for none.
    """

    kind: Kind
    body: Json
    dry_run: bool = False
    too_early: str = ""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the job of an attempt, unless it exists. The backend writes its body, and that of what the job needs."""

    owner: Owner
    pods: AttemptPods


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object of this uid. ``foreground``: it stays visible until its pods are gone."""

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


Write = Create | CreateJob | Delete | Patch


def writes(
    owner: Owner,
    configuration: Configuration,
    actions: Iterable[Action],
    records: Sequence[AttemptStatus],
    snapshot: RoundSnapshot,
    now: datetime,
) -> tuple[Write, ...]:
    """Return the writes to make after the status is stored: ``actions`` are the planner's, ``records`` the status's."""
    found = {service.ref: service for service in service_objects(snapshot)}
    made: list[Write] = []
    stopped = set()
    starting = set[AttemptKey]()
    for action in actions:
        if isinstance(action, StartService):
            made += _missing_objects(owner, configuration, action, found.get(action.ref))
        elif isinstance(action, StopService) and action.ref in found:
            stopped.add(action.ref)
            made += _removal(found[action.ref])
        elif isinstance(action, StartStage):
            made.append(CreateJob(owner, attempt_pods(owner, configuration, action)))
            starting.add((action.stage, action.attempt))
    made += _of_attempts(owner, records, snapshot, now)
    made += _unused_runtimes(snapshot, starting)
    # Last, for the first write that fails ends a pass: a service without its autoscaler still works.
    for service in found.values():
        if service.ref not in stopped:
            made += _sizing(owner, configuration, service)
    return tuple(made)


def next_expiry(
    owner: Owner, records: Iterable[AttemptStatus], snapshot: RoundSnapshot, now: datetime
) -> timedelta | None:
    """Return how long until the job of the next finished attempt is deleted; None when no job is left."""
    kept = {key_of(job) for job in snapshot.jobs}
    times = [expiry - now for key, expiry in _expiries(owner, records) if key in kept]
    return max(min(times), timedelta()) if times else None


def _missing_objects(
    owner: Owner, configuration: Configuration, action: StartService, found: ServiceObjects | None
) -> Iterator[Write]:
    if found is None or found.service is None:
        yield Create(SERVICES, headless_service(owner, configuration, action.ref))
    if found is None or found.deployment is None:
        yield Create(DEPLOYMENTS, deployment(owner, configuration, action.ref))


def _removal(service: ServiceObjects) -> Iterator[Write]:
    kinds = (
        (AUTOSCALERS, service.autoscaler, False),
        (SCALED_OBJECTS, service.scaled_object, False),
        # Until its pods are gone the next model may find no room.
        (DEPLOYMENTS, service.deployment, True),
        (SERVICES, service.service, False),
    )
    for kind, body, foreground in kinds:
        if body is not None and not deleting(body):
            yield Delete(kind, name_of(body), body["metadata"]["uid"], foreground)


def _sizing(owner: Owner, configuration: Configuration, service: ServiceObjects) -> Iterator[Write]:
    """Give a running service the size that the round asks for now; where an autoscaler exists, it sets the replicas."""
    if service.deployment is None or any(deleting(body) for body in service.bodies()):
        return
    wanted = autoscaler(owner, configuration, service.ref)
    scalers = ((AUTOSCALERS, service.autoscaler), (SCALED_OBJECTS, service.scaled_object))
    unwanted = [(k, body) for k, body in scalers if body is not None and (wanted is None or wanted.kind != k)]
    found = next((body for k, body in scalers if wanted is not None and wanted.kind == k), None)
    size = service_size(owner, service.ref).size
    if unwanted:
        # Two autoscalers of one Deployment would undo each other's changes: the next one is created after them.
        yield from (Delete(k, name_of(body), body["metadata"]["uid"]) for k, body in unwanted)
    elif wanted is not None and found is None:
        yield Create(wanted.kind, wanted.body)
    elif wanted is not None and found is not None and not _has(found["spec"], wanted.body["spec"]):
        yield Patch(wanted.kind, name_of(found), {"spec": wanted.body["spec"]})
    elif wanted is None and service.deployment["spec"].get("replicas") != size:
        yield Patch(DEPLOYMENTS, name_of(service.deployment), {"spec": {"replicas": size}})


def _has(found: Any, wanted: Any) -> bool:
    """Return whether ``found`` has all that ``wanted`` has: the API server adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_has, found, wanted))
    return bool(found == wanted)


def _of_attempts(
    owner: Owner, records: Sequence[AttemptStatus], snapshot: RoundSnapshot, now: datetime
) -> Iterator[Write]:
    by_key = {(Stage(r.stage), r.number): r for r in records}
    expired = {key for key, expiry in _expiries(owner, records) if expiry <= now}
    reporting = {key_of(body) for body in snapshot.progress}
    for job in snapshot.jobs:
        name, key = name_of(job), key_of(job)
        record, seen = by_key.get(key), snapshot.job_states[name]
        if deleting(job):
            continue
        if key in expired or (record is not None and _is_ending(record)):
            if seen.deletion_patch is not None:
                yield Patch(seen.kind, name, seen.deletion_patch)
            yield Delete(seen.kind, name, job["metadata"]["uid"], foreground=True)
            continue
        if record is not None and record.finished_at is not None and seen.stop_patch is not None:
            yield Patch(seen.kind, name, seen.stop_patch)
        if key not in reporting:
            yield Create(CONFIG_MAPS, progress_map(owner, job))


def _unused_runtimes(snapshot: RoundSnapshot, starting: Set[AttemptKey]) -> Iterator[Write]:
    """Delete the TrainingRuntimes of jobs that are gone, and those that were made for a job under an earlier spec."""
    used = {seen.runtime for seen in snapshot.job_states.values()}
    for body in snapshot.runtimes:
        if not (deleting(body) or name_of(body) in used or key_of(body) in starting):
            yield Delete(TRAINING_RUNTIMES, name_of(body), body["metadata"]["uid"])


def _is_ending(record: AttemptStatus) -> bool:
    return record.ending is not None and AttemptState(record.state) is not AttemptState.SUCCEEDED


def _expiries(owner: Owner, records: Iterable[AttemptStatus]) -> Iterator[tuple[AttemptKey, datetime]]:
    """Yield when the pods and logs of each finished attempt may go. Only attempts that the status records as over end."""
    kept = timedelta(seconds=owner.round.spec.lifecycle.ttl_seconds)
    for record in records:
        if record.finished_at is not None:
            yield (Stage(record.stage), record.number), record.finished_at + kept

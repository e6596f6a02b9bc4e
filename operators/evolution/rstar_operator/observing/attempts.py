"""The attempts of a round: what the status remembers, and what the jobs and their pods say.

The status is the memory of what has ended: a recorded end stays, whatever becomes of the job. Everything else is
read off the job. A job that says Succeeded is believed only with a manifest in a pod's termination message; an
attempt whose job vanished before its end was recorded never was, so that it is made again under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rstar.cluster.api import Json
from rstar.cluster.names import ATTEMPT, JOB_NAME, PROGRESS_KEY, STAGE
from rstar.rounds.observed import (
    BAD_INPUT,
    STAGES,
    Attempt,
    AttemptState,
    EndReason,
    ManifestRef,
    Stage,
    StageOutput,
)
from rstar.rounds.status import AttemptStatus, RoundStatus
from rstar_operator.backend import JobSeen, TrainingBackend
from rstar_operator.observing.pods import Ended, disrupted, ended, waiting_for
from rstar_operator.snapshot import World, deleting, name_of

Key = tuple[Stage, int]

NO_MANIFEST = "it ended well but left no manifest"
TAKEN_AWAY = "its pods or their node were taken away"


def attempts(world: World, status: RoundStatus | None, backend: TrainingBackend, now: datetime) -> tuple[Attempt, ...]:
    """Return all attempts, by stage and number."""
    records = {(Stage(r.stage), r.number): r for r in status.attempts} if status else {}
    jobs = {key_of(job): job for job in world.jobs}
    outputs = _outputs(status) if status else {}
    found = []
    for key in sorted(records.keys() | jobs.keys(), key=lambda k: (list(Stage).index(k[0]), k[1])):
        attempt = _attempt(key, records.get(key), jobs.get(key), outputs, world, backend, now)
        if attempt is not None:
            found.append(attempt)
    return tuple(found)


def key_of(job: Json) -> Key:
    """Return the stage and the number of an attempt's job."""
    labels = job["metadata"]["labels"]
    return Stage(labels[STAGE]), int(labels[ATTEMPT])


def pods_of(job: Json, world: World) -> tuple[Json, ...]:
    """Return the pods of a job: of this very job, not of an earlier one of its name."""
    uid, name = job["metadata"]["uid"], name_of(job)
    return tuple(
        pod
        for pod in world.pods
        if pod["metadata"].get("labels", {}).get(JOB_NAME) == name
        and any(reference["uid"] == uid for reference in pod["metadata"].get("ownerReferences", []))
    )


def unconfirmed(world: World, status: RoundStatus | None, backend: TrainingBackend) -> Iterator[Json]:
    """Yield the jobs that have ended while their pods, as seen here, have not: the pods must be looked at anew."""
    over = {(Stage(r.stage), r.number) for r in status.attempts if r.finished_at is not None} if status else set()
    for job in world.jobs:
        if key_of(job) in over or backend.read(job).state not in {"succeeded", "failed"}:
            continue
        pods = pods_of(job, world)
        if not pods or any(ended(pod) is None for pod in pods):
            yield job


def podless(world: World, status: RoundStatus | None, backend: TrainingBackend) -> Iterator[Json]:
    """Yield the jobs that wait without a pod: something keeps their pods from being made."""
    told = {(Stage(r.stage), r.number) for r in status.attempts if r.state == "pending"} if status else set()
    for job in world.jobs:
        # One that is not yet told of is too young to be in trouble.
        waits = key_of(job) in told and backend.read(job).state == "pending" and not deleting(job)
        if waits and not pods_of(job, world):
            yield job


def _attempt(
    key: Key,
    record: AttemptStatus | None,
    job: Json | None,
    outputs: Mapping[Key, StageOutput],
    world: World,
    backend: TrainingBackend,
    now: datetime,
) -> Attempt | None:
    if record is not None and record.finished_at is not None:
        return _recorded(record, outputs.get(key))
    ending = EndReason(record.ending) if record is not None and record.ending else None
    if job is None:
        if record is None or ending is None:
            return None
        return replace(_recorded(record, None), state=AttemptState.FAILED, finished_at=now)
    seen = backend.read(job)
    live = Attempt(*key, AttemptState.RUNNING, seen.started, ending=ending)
    pods = pods_of(job, world)
    # Being deleted it is still there, and may still hold compute.
    if seen.state in {"succeeded", "failed"} and not deleting(job):
        live = replace(live, started_at=record.started_at if record is not None else seen.started)
        ran = record is not None and record.state == "running"
        return live if _unheard(seen, pods) else _over(live, seen, pods, ran=ran)
    why = waiting_for(pods) or world.troubles.get(name_of(job), "")
    # Of several pods one may run while another finds no node.
    if deleting(job) or (seen.state == "running" and not why):
        return live
    return replace(live, state=AttemptState.PENDING, queued=seen.state == "queued", reason=why)


def _unheard(seen: JobSeen, pods: tuple[Json, ...]) -> bool:
    """Say whether a success is still to be told of: of several pods, others may end before the one that tells."""
    ends = [ended(pod) for pod in pods]
    return seen.state == "succeeded" and None in ends and not any(end and _output(end) for end in ends)


def _over(live: Attempt, seen: JobSeen, pods: tuple[Json, ...], *, ran: bool) -> Attempt:
    ends = [end for pod in pods if (end := ended(pod)) is not None]
    output = next((found for end in ends if (found := _output(end)) is not None), None)
    finished = max((end.finished_at for end in ends if end.finished_at is not None), default=seen.since)
    over = replace(live, state=AttemptState.FAILED, finished_at=finished)
    if seen.state == "succeeded":
        if output is None:
            return replace(over, exit_code=0, reason=NO_MANIFEST)
        return replace(over, state=AttemptState.SUCCEEDED, exit_code=0, output=output)
    # Pods that end by themselves stay: those of an attempt that ran were evicted, or deleted by somebody.
    if any(disrupted(pod) for pod in pods) or (ran and not pods):
        return replace(over, ending=live.ending or EndReason.LOST, reason=TAKEN_AWAY)
    failed = next((end for end in ends if end.exit_code != 0), None)
    if failed is None:
        return replace(over, reason=seen.message or "its pods are gone")
    # A launcher (torchrun) hides the exit code of the program it runs: the message still tells.
    told = next((end for end in ends if end.result.get("exit_code") == BAD_INPUT), None)
    code = BAD_INPUT if told is not None else failed.exit_code
    return replace(over, exit_code=code, reason=(told or failed).sentence())


def _output(end: Ended) -> StageOutput | None:
    result = end.result
    key, digest, metrics = result.get("manifest"), result.get("digest"), result.get("metrics", {})
    if end.exit_code != 0 or not (isinstance(key, str) and isinstance(digest, str) and len(digest) == 64):
        return None
    return StageOutput(ManifestRef(key, digest), metrics if isinstance(metrics, dict) else {})


def _recorded(record: AttemptStatus, output: StageOutput | None) -> Attempt:
    state = AttemptState(record.state)
    return Attempt(
        Stage(record.stage),
        record.number,
        state,
        record.started_at,
        record.finished_at,
        record.exit_code,
        record.reason,
        output if state is AttemptState.SUCCEEDED else None,
        EndReason(record.ending) if record.ending else None,
    )


def _outputs(status: RoundStatus) -> dict[Key, StageOutput]:
    """Return what the done stages left behind, by the attempt that did it."""
    found: dict[Key, StageOutput] = {}
    for stage in status.stages:
        if stage.output is None:
            continue
        done = next(r for r in status.attempts if r.stage == stage.name and r.state == "succeeded")
        metrics: dict[str, Any] = dict(stage.metrics)
        ref = ManifestRef(stage.output.manifest, stage.output.digest)
        found[Stage(stage.name), done.number] = StageOutput(ref, metrics)
    return found


_BYTES = 2_000


def reported_progress(world: World) -> dict[str, Any]:
    """Return the figures of the youngest attempt; {} when it has said nothing that can be read.

    What an earlier one has told says nothing of it.
    """
    keys = [key_of(job) for job in world.jobs if not deleting(job)]
    youngest = max(keys, key=lambda key: (STAGES.index(key[0]), key[1]), default=None)
    told = {key_of(body): body for body in world.progress}
    if youngest is None or youngest not in told:
        return {}
    text = told[youngest].get("data", {}).get(PROGRESS_KEY, "{}")
    try:
        found = json.loads(text) if len(text) <= _BYTES else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

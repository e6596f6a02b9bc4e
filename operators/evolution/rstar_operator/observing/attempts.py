"""The attempts of a round, from the records in its status and from its jobs and their pods.

The status records how attempts ended: a recorded end stays, whatever happens to the job. Everything else is read from
the job. A job that has succeeded counts only with a manifest in the termination message of a pod. If a job vanishes
before its end is recorded, the attempt is created again under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rstar.cluster.api import Json
from rstar.cluster.names import ATTEMPT, PROGRESS_KEY, STAGE
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
from rstar.rounds.programs import NO_MANIFEST, json_object
from rstar.rounds.status import AttemptStatus, RoundStatus
from rstar_operator.observing.pods import container_end, disrupted, waiting_reason
from rstar_operator.snapshot import JobSeen, RoundSnapshot, deleting, name_of, parse_time

AttemptKey = tuple[Stage, int]

MOST_PROGRESS = 2_000
"""Characters of a progress report; a longer one is ignored, because the status keeps it."""

TAKEN_AWAY = "its pods or their node were taken away"


def attempts(snapshot: RoundSnapshot, status: RoundStatus | None, now: datetime) -> tuple[Attempt, ...]:
    """Return all attempts, by stage and number. ``status`` is the stored one."""
    records = {(Stage(r.stage), r.number): r for r in status.attempts} if status else {}
    jobs = {key_of(job): job for job in snapshot.jobs}
    outputs = _outputs(status) if status else {}
    found = []
    for key in sorted(records.keys() | jobs.keys(), key=lambda k: (list(Stage).index(k[0]), k[1])):
        attempt = _attempt(key, records.get(key), jobs.get(key), outputs, snapshot, now)
        if attempt is not None:
            found.append(attempt)
    return tuple(found)


def key_of(job: Json) -> AttemptKey:
    """Return the stage and the number of an attempt's job."""
    labels = job["metadata"]["labels"]
    return Stage(labels[STAGE]), int(labels[ATTEMPT])


def pods_of(job: Json, snapshot: RoundSnapshot) -> tuple[Json, ...]:
    """Return the pods of this job, without those of an earlier job of its name."""
    key = key_of(job)
    return tuple(pod for pod in snapshot.pods if _attempt_of(pod) == key and _made_for(job, pod))


def _attempt_of(pod: Json) -> AttemptKey | None:
    labels = pod["metadata"].get("labels", {})
    return key_of(pod) if STAGE in labels and ATTEMPT in labels else None


def _made_for(job: Json, pod: Json) -> bool:
    """Return whether a pod of the attempt is this job's own, not one of an earlier job of its name.

    The pods of a TrainJob belong to the Job of its JobSet, which belongs to it: two owners away, so that the time decides.
    """
    references = pod["metadata"].get("ownerReferences", [])
    if any(reference["kind"] == "Job" for reference in references):
        return _created(pod) >= _created(job)
    return any(reference["uid"] == job["metadata"]["uid"] for reference in references)


def _created(body: Json) -> datetime:
    return parse_time(body["metadata"]["creationTimestamp"])


def jobs_with_stale_pods(snapshot: RoundSnapshot, records: Iterable[AttemptStatus]) -> Iterator[Json]:
    """Yield the jobs that have ended while their pods, in this snapshot, have not: the watch has not brought the pods."""
    recorded = {(Stage(r.stage), r.number) for r in records if r.finished_at is not None}
    for job in snapshot.jobs:
        if key_of(job) in recorded or snapshot.job_states[name_of(job)].state not in {"succeeded", "failed"}:
            continue
        pods = pods_of(job, snapshot)
        if not pods or any(container_end(pod) is None for pod in pods):
            yield job


def jobs_without_pods(snapshot: RoundSnapshot, records: Iterable[AttemptStatus]) -> Iterator[Json]:
    """Yield the jobs that wait without a pod: something prevents the creation of their pods."""
    # A job that the status does not record yet was created a moment ago: its pods may still come.
    pending = {(Stage(r.stage), r.number) for r in records if r.state == "pending"}
    for job in snapshot.jobs:
        waits = key_of(job) in pending and snapshot.job_states[name_of(job)].state == "pending" and not deleting(job)
        if waits and not pods_of(job, snapshot):
            yield job


def _attempt(
    key: AttemptKey,
    record: AttemptStatus | None,
    job: Json | None,
    outputs: Mapping[AttemptKey, StageOutput],
    snapshot: RoundSnapshot,
    now: datetime,
) -> Attempt | None:
    if record is not None and record.finished_at is not None:
        return _recorded(record, outputs.get(key))
    ending = EndReason(record.ending) if record is not None and record.ending else None
    if job is None:
        if record is None or ending is None:
            return None
        return replace(_recorded(record, None), state=AttemptState.FAILED, finished_at=now)
    seen = snapshot.job_states[name_of(job)]
    live = Attempt(*key, AttemptState.RUNNING, seen.started, ending=ending)
    pods = pods_of(job, snapshot)
    # A job that is being deleted may still hold compute.
    if seen.state in {"succeeded", "failed"} and not deleting(job):
        live = replace(live, started_at=record.started_at if record is not None else seen.started)
        ran = record is not None and record.state == "running"
        return live if _awaits_manifest(seen, pods) else _finished(live, seen, pods, ran=ran)
    if seen.state == "pending" and not pods and record is not None and _has_run(record, job):
        # Its pods are gone: its controller is about to report the end, and no job starts its pods again.
        return replace(live, started_at=record.started_at)
    why = waiting_reason(pods) or snapshot.creation_failures.get(name_of(job), "")
    # One of several pods may find no node while the others run.
    if deleting(job) or (seen.state == "running" and not why):
        return live
    return replace(live, state=AttemptState.PENDING, queued=seen.state == "queued", reason=why)


def _has_run(record: AttemptStatus, job: Json) -> bool:
    """Return whether this job, and not an earlier one of its name, is recorded as running."""
    return record.state == "running" and record.started_at >= _created(job)


def _awaits_manifest(seen: JobSeen, pods: tuple[Json, ...]) -> bool:
    """Return whether the manifest of a successful job may still come: the pod that writes it need not end first."""
    ends = [container_end(pod) for pod in pods]
    return seen.state == "succeeded" and None in ends and not any(end and end.result.output for end in ends)


def _finished(live: Attempt, seen: JobSeen, pods: tuple[Json, ...], *, ran: bool) -> Attempt:
    ends = [end for pod in pods if (end := container_end(pod)) is not None]
    output = next((end.result.output for end in ends if end.result.output is not None), None)
    finished = max((end.finished_at for end in ends if end.finished_at is not None), default=seen.since)
    over = replace(live, state=AttemptState.FAILED, finished_at=finished)
    if seen.state == "succeeded":
        if output is None:
            return replace(over, exit_code=0, reason=NO_MANIFEST)
        return replace(over, state=AttemptState.SUCCEEDED, exit_code=0, output=output)
    # Pods that end by themselves stay. Missing pods of an attempt that ran were evicted or deleted by somebody.
    if any(disrupted(pod) for pod in pods) or (ran and not pods):
        return replace(over, ending=live.ending or EndReason.LOST, reason=TAKEN_AWAY)
    failed = next((end for end in ends if end.exit_code != 0), None)
    if failed is None:
        return replace(over, reason=seen.message or "its pods are gone")
    # Of several pods the leader alone writes a result.
    refusing = next((end for end in ends if end.result.exit_code == BAD_INPUT and end.result.error), failed)
    return replace(over, exit_code=refusing.result.exit_code, reason=refusing.sentence())


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


def _outputs(status: RoundStatus) -> dict[AttemptKey, StageOutput]:
    """Return the outputs of finished stages, by the attempt that wrote them."""
    found: dict[AttemptKey, StageOutput] = {}
    for stage in status.stages:
        if stage.output is None:
            continue
        done = next(r for r in status.attempts if r.stage == stage.name and r.state == "succeeded")
        metrics: dict[str, Any] = dict(stage.metrics)
        ref = ManifestRef(stage.output.manifest, stage.output.digest)
        found[Stage(stage.name), done.number] = StageOutput(ref, metrics, stage.code_version)
    return found


def reported_progress(snapshot: RoundSnapshot) -> dict[str, Any]:
    """Return the progress of the latest attempt; {} when it has reported none that can be read."""
    keys = [key_of(job) for job in snapshot.jobs if not deleting(job)]
    latest = max(keys, key=lambda key: (STAGES.index(key[0]), key[1]), default=None)
    reports = {key_of(body): body for body in snapshot.progress}
    if latest is None or latest not in reports:
        return {}
    text = reports[latest].get("data", {}).get(PROGRESS_KEY, "{}")
    return json_object(text) if len(text) <= MOST_PROGRESS else {}

"""One pass over one round: read, decide, store the status, write, post Events (``writing``).

The operator may be killed anywhere, read old bodies, and run twice at once:

- The status is stored first, over exactly the version that was read; where the status does not change, the version is
  compared. A pass on an old version ends there, before any other write; so does the slower one of two operators.
- The name of a created object follows from what the object is. If the name is taken, either the object is the round's
  own, made by an interrupted pass or by the other operator, or it is somebody else's and is left alone.
- Deletes name the uid of the object.
- Nothing is remembered outside the API server but the rate limit of status updates.

Nothing is repeated here: the caller makes the next pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from rstar.cluster.api import EVENTS, PODS, ROUNDS, TRAINING_RUNTIMES, Cluster, Json, Kind
from rstar.rounds.status import RoundStatus
from rstar.rpc.tracing import record_round
from rstar_operator.backend import TrainingBackend
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.decision import RETRY_AFTER, Decision, decide
from rstar_operator.deciding.events import transitions
from rstar_operator.deciding.write_failures import WriteFailure
from rstar_operator.deciding.writes import Create, CreateJob, Delete, Patch, Write
from rstar_operator.observing.attempts import jobs_with_stale_pods, jobs_without_pods, pods_of
from rstar_operator.observing.pods import cut
from rstar_operator.observing.rounds import read_status
from rstar_operator.snapshot import RoundSnapshot, in_order, name_of
from rstar_operator.writing import Clock, OnStored, Writer

_ENDED: Final = frozenset({"Succeeded", "Failed"})

PROGRESS_SECONDS: Final = 5.0
"""A status that differs in its progress alone is stored at most this often per round."""


@dataclass(frozen=True, slots=True)
class Pass:
    """How a pass ended. ``version``: the round's version after it; ``requeue_after``: when to look if nothing happens."""

    version: str
    requeue_after: timedelta | None = None
    written: int = 0


class Reconciler:
    """Makes passes over rounds. Safe to share between threads, with one pass per round at a time."""

    def __init__(
        self,
        cluster: Cluster,
        configuration: Configuration,
        backend: TrainingBackend,
        on_stored: OnStored = lambda _kind, _body: None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._configuration = configuration
        self._backend = backend
        self._clock = clock
        self._writer = Writer(cluster, ROUNDS, "round", on_stored, clock)
        self._stored = RateLimit(PROGRESS_SECONDS)

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        """Make one pass. Raises ``ClusterError`` when the cluster fails: the next pass continues from what exists then.

        ``ConflictError``: the snapshot was older than the API server's objects.
        """
        before = read_status(snapshot.round)
        decision = decide(self._completed(snapshot, before), self._configuration, self._clock())
        if wait := self._rate_limited(snapshot, before, decision):
            return Pass(snapshot.round["metadata"]["resourceVersion"], wait)
        body, stored = self._store(snapshot.round, before, decision.status, fence=bool(decision.writes))
        failure, written = self._write(body, snapshot, decision.writes)
        if failure != decision.facts.failure:
            body, again = self._store(body, decision.status, decision.status_after(failure))
            stored += again
        pauses = (decision.requeue_after, RETRY_AFTER if failure is not None else None)
        requeue_after = min((pause for pause in pauses if pause is not None), default=None)
        return Pass(body["metadata"]["resourceVersion"], requeue_after, stored + written)

    def _completed(self, snapshot: RoundSnapshot, before: RoundStatus | None) -> RoundSnapshot:
        """Add what the watch does not bring: states of jobs, messages of pods just ended, why pods are not created."""
        namespace = snapshot.round["metadata"]["namespace"]
        records = before.attempts if before is not None else ()
        states = {name_of(job): self._backend.read(job, pods_of(job, snapshot)) for job in snapshot.jobs}
        snapshot = replace(snapshot, job_states=states)
        pods = {name_of(pod): pod for pod in snapshot.pods}
        for job in jobs_with_stale_pods(snapshot, records):
            found = self._cluster.list(PODS, namespace, self._backend.pod_selector(name_of(job)))
            pods |= {name_of(pod): pod for pod in found}
        snapshot = replace(snapshot, pods=in_order(pods.values()))
        failures = {name_of(job): self._last_warning(job) for job in jobs_without_pods(snapshot, records)}
        return replace(snapshot, creation_failures=failures)

    def _last_warning(self, job: Json) -> str:
        """Return the last warning about a job: only Events report that its pods are refused (quota, service account)."""
        of_job = f"involvedObject.uid={job['metadata']['uid']},type=Warning"
        found = self._cluster.list(EVENTS, job["metadata"]["namespace"], fields=of_job)
        latest = max(found, key=lambda e: e.get("lastTimestamp") or "", default=None)
        return cut(latest.get("message", "")) if latest is not None else ""

    def _rate_limited(
        self, snapshot: RoundSnapshot, before: RoundStatus | None, decision: Decision
    ) -> timedelta | None:
        """Return how long to wait when only progress has changed and the status was stored a moment ago."""
        if before is None or decision.writes or not _differ_in_progress_alone(before, decision.status):
            return None
        remaining = self._stored.remaining(snapshot.uid)
        return timedelta(seconds=remaining) if remaining > 0 else None

    def _store(
        self, body: Json, before: RoundStatus | None, status: RoundStatus, *, fence: bool = False
    ) -> tuple[Json, int]:
        """Store the status where it differs, and count that.

        ``fence``: writes follow, so that the version must be compared even if the status does not change. Raises
        ``ConflictError`` when ``body`` is old.
        """
        if status == before:
            return (self._writer.newest(body) if fence else body), 0
        stored = self._writer.store(body, status, transitions(before, status))
        self._stored.record(body["metadata"]["uid"])
        if status.phase in _ENDED and (before is None or before.phase != status.phase) and status.attempts:
            began = min(attempt.started_at for attempt in status.attempts)
            record_round(body["metadata"]["uid"], name_of(body), began, self._clock(), status.phase)
        return stored, 1

    def _write(self, body: Json, snapshot: RoundSnapshot, writes: Sequence[Write]) -> tuple[WriteFailure | None, int]:
        """Make the writes, up to a job that must not be created because another backend's job of its attempt exists."""
        there = {(TRAINING_RUNTIMES, name_of(body)) for body in snapshot.runtimes}
        resolved: list[Create | Delete | Patch] = []
        blocked = None
        for write in writes:
            if isinstance(write, CreateJob):
                if (blocked := other_backends_job(snapshot, write.pods.name, self._backend.kind)) is not None:
                    break
                creates = self._backend.creates(write.owner, write.pods)
                resolved += [each for each in creates if (each.kind, name_of(each.body)) not in there]
            else:
                resolved.append(write)
        failure, written = self._writer.write(body, resolved)
        return failure or blocked, written


def other_backends_job(snapshot: RoundSnapshot, name: str, kind: Kind) -> WriteFailure | None:
    """Return the failure that a job of another backend runs this attempt, or may: its progress report exists.

    Two jobs would write the same artefacts. It is left over from before a change of the operator's training backend.
    """
    for report in snapshot.other_progress:
        for owner in report["metadata"].get("ownerReferences", []) if name_of(report) == name else ():
            if not kind.api.endswith(f"/{owner['apiVersion']}"):
                sentence = (
                    f"{owner['kind']} {owner['name']} is in the way: it was made with another operator.trainingBackend and "
                    "may run; delete it, or let it end under that backend"
                )
                return WriteFailure("NameConflict", sentence)
    return None


def _differ_in_progress_alone(before: RoundStatus, after: RoundStatus) -> bool:
    without = {"progress": {}, "progress_text": "", "solved_percent": ""}
    return before != after and before.model_copy(update=without) == after.model_copy(update=without)


class RateLimit:
    """In-memory rate limit per key: once in ``seconds``. Losing it only makes one write early."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}  # the oldest first
        self._lock = threading.Lock()

    def record(self, key: str) -> None:
        """Record that it was done now, and forget the keys whose limit has passed."""
        with self._lock:
            now = self._clock()
            self._until.pop(key, None)
            self._until[key] = now + self._seconds
            while self._until[first := next(iter(self._until))] <= now:
                del self._until[first]

    def remaining(self, key: str) -> float:
        """Return for how many more seconds it may not be done; 0 when it may."""
        with self._lock:
            return max(self._until[key] - self._clock(), 0.0) if key in self._until else 0.0

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._until)

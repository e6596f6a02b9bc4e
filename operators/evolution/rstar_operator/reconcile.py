"""One pass over one round: read, decide, store the status, write, post Events. All I/O around ``deciding`` is here.

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

import structlog

from rstar.cluster.api import (
    EVENTS,
    NAMESPACE_TERMINATING,
    PODS,
    ROUNDS,
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    Json,
    Kind,
    NotFoundError,
)
from rstar.rounds.status import RoundStatus
from rstar_operator.backend import TrainingBackend
from rstar_operator.children.identity import owned_by
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.decision import RETRY_AFTER, Decision, decide
from rstar_operator.deciding.deletion import FINALIZER, without_finalizer
from rstar_operator.deciding.events import event, transitions
from rstar_operator.deciding.status import status_body
from rstar_operator.deciding.write_failures import WriteFailure
from rstar_operator.deciding.writes import Create, CreateJob, Delete, Patch, Write
from rstar_operator.observing.attempts import jobs_with_stale_pods, jobs_without_pods
from rstar_operator.observing.pods import cut
from rstar_operator.observing.rounds import read_status
from rstar_operator.snapshot import RoundSnapshot, in_order, name_of

PROGRESS_SECONDS: Final = 5.0
"""A status that differs in its progress alone is stored at most this often per round."""

_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422

Clock = Callable[[], datetime]
OnStored = Callable[[Kind, Json], None]
"""Called with every object as our own write left it."""


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
        self._on_stored = on_stored
        self._clock = clock
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
        failure, written = self._write(body, decision.writes)
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
        snapshot = replace(snapshot, job_states={name_of(job): self._backend.read(job) for job in snapshot.jobs})
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
        """Store the status and post Events about the changes. Raises ``ConflictError`` when ``body`` is old.

        ``fence``: writes follow, so that the version must be compared even if the status does not change.
        """
        if status == before:
            return (self._newest(body) if fence else body), 0
        try:
            stored = self._cluster.replace_status(ROUNDS, body["metadata"]["namespace"], status_body(body, status))
        except NotFoundError:
            raise ConflictError(f"round {name_of(body)} is gone", 409) from None
        self._on_stored(ROUNDS, stored)
        self._stored.record(body["metadata"]["uid"])
        for kind, reason, message in transitions(before, status):
            structlog.get_logger().info(
                "transition",
                namespace=body["metadata"]["namespace"],
                round=name_of(body),
                reason=reason,
                message=message,
            )
            self._post(event(body, kind, reason, message, self._clock()))
        return stored, 1

    def _newest(self, body: Json) -> Json:
        """Return the round, which must still have the version that was read. This writes nothing."""
        now = self._cluster.get(ROUNDS, body["metadata"]["namespace"], name_of(body))
        if now is None or now["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(f"round {name_of(body)} has changed since it was read", 409)
        return now

    def _post(self, body: Json) -> None:
        """Post an Event. If it exists, it was posted before the operator was killed; a refused one is only logged."""
        try:
            self._cluster.create(EVENTS, body["metadata"]["namespace"], body)
        except ClusterError as error:
            if not isinstance(error, AlreadyExistsError):
                structlog.get_logger().warning("event not posted", reason=body["reason"], error=str(error))

    def _write(self, body: Json, writes: Sequence[Write]) -> tuple[WriteFailure | None, int]:
        """Make the writes in order and count them. The first failure ends the pass and is returned."""
        for made, write in enumerate(writes):
            if (failure := self._write_one(body, write)) is not None:
                return failure, made
        return None, len(writes)

    def _write_one(self, body: Json, write: Write) -> WriteFailure | None:
        namespace = body["metadata"]["namespace"]
        if isinstance(write, CreateJob):
            write = Create(self._backend.kind, self._backend.manifest(write.owner, write.pods))
        try:
            if isinstance(write, Create):
                return self._create(body, write)
            if isinstance(write, Delete):
                self._cluster.delete(write.kind, namespace, write.name, uid=write.uid, foreground=write.foreground)
            else:
                patch = _for_version(write, body)
                self._on_stored(write.kind, self._cluster.patch(write.kind, namespace, write.name, patch))
        except NotFoundError:
            # Deleted meanwhile: the watch reports it.
            return None
        return None

    def _create(self, body: Json, write: Create) -> WriteFailure | None:
        namespace = body["metadata"]["namespace"]
        try:
            self._on_stored(write.kind, self._cluster.create(write.kind, namespace, write.body))
        except AlreadyExistsError:
            return self._name_conflict(body, write)
        except ClusterError as error:
            if error.reason == NAMESPACE_TERMINATING and FINALIZER in body["metadata"].get("finalizers", []):
                # No Job can start any more to delete artefacts, and nothing may block the namespace.
                self._write_one(body, without_finalizer(body))
                return None
            if error.code in {_FORBIDDEN, _UNPROCESSABLE}:
                what = f"{write.body['kind']} {name_of(write.body)}"
                return WriteFailure("CreationRefused", f"{what} was refused: {error}")
            raise
        return None

    def _name_conflict(self, body: Json, write: Create) -> WriteFailure | None:
        """Return the failure if the object that has the name is not the round's own."""
        found = self._cluster.get(write.kind, body["metadata"]["namespace"], name_of(write.body))
        if found is None:
            return None
        if owned_by(found, write.body["metadata"]["ownerReferences"][0]["uid"]):
            self._on_stored(write.kind, found)
            return None
        what = f"{write.body['kind']} {name_of(write.body)}"
        return WriteFailure(
            "NameConflict",
            f"{what} is in the way: it does not belong to this round and is not touched; delete it or rename the round",
        )


def _for_version(write: Patch, body: Json) -> Json:
    """Return the patch; one of the round itself is made for the version that this pass has just stored."""
    if write.kind != ROUNDS:
        return write.body
    changed = {**write.body["metadata"], "resourceVersion": body["metadata"]["resourceVersion"]}
    return {**write.body, "metadata": changed}


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

"""One pass over one round: look, decide, store the status, write, tell. All I/O around ``deciding`` is here.

What makes it safe to be killed anywhere, to look at old bodies, and to run twice at once:

- The status is stored first, over exactly the version that was looked at; where it says nothing new, the version is
  compared. A pass on an old version ends there, before it has written anything else; so does the slower one of two
  operators.
- Creates have names that follow from what they are. When the name is taken, the object is the round's own (made by
  an earlier pass that was cut off, or by the other operator) or somebody else's, and then it is left alone.
- Deletes name the object by its uid.
- Nothing is remembered outside the API server but which rounds' status was stored within the last seconds.

The module refuses to decide, and to repeat itself: whoever calls it looks again.
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
from rstar_operator.deciding.decision import Decision, decide, refused, status_body
from rstar_operator.deciding.deletion import FINALIZER, without_finalizer
from rstar_operator.deciding.events import event, transitions
from rstar_operator.deciding.obstacles import Obstacle, remembered
from rstar_operator.deciding.writes import Create, Delete, Patch, Write
from rstar_operator.observing.attempts import podless, unconfirmed
from rstar_operator.observing.pods import cut
from rstar_operator.observing.rounds import InvalidRoundError, read_round, read_status
from rstar_operator.snapshot import World, in_order, name_of

PROGRESS_SECONDS: Final = 5.0
"""Progress alone is stored at most this often per round."""

SOON: Final = timedelta(seconds=1)
_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422

Clock = Callable[[], datetime]
Learn = Callable[[Kind, Json], None]
"""Takes note of an object as our own write left it."""


@dataclass(frozen=True, slots=True)
class Pass:
    """How a pass ended. ``version``: the round's version that it left; ``again``: when to look if nothing happens."""

    version: str
    again: timedelta | None = None
    written: int = 0


class Reconciler:
    """Makes passes over rounds; safe to share between threads, one pass per round at a time."""

    def __init__(
        self,
        cluster: Cluster,
        configuration: Configuration,
        backend: TrainingBackend,
        learn: Learn = lambda _kind, _body: None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._configuration = configuration
        self._backend = backend
        self._learn = learn
        self._clock = clock
        self._stored = RateLimit(PROGRESS_SECONDS)

    def reconcile(self, world: World) -> Pass:
        """Make one pass. Raises ``ClusterError`` when the cluster fails it: the next pass goes on from what is there.

        ``ConflictError``: the world was older than what the API server holds.
        """
        before = read_status(world.round)
        world = self._explained(self._confirmed(world, before), before)
        obstacle = remembered(before)
        decision = self._decide(world, obstacle)
        if obstacle is not None and not decision.writes:
            obstacle = None
            decision = self._decide(world, None)
        if wait := self._too_soon(world, before, decision):
            return Pass(world.round["metadata"]["resourceVersion"], wait)
        body, written = self._store(world.round, before, decision)
        found, made = self._write(body, decision.writes)
        written += made
        if found != obstacle:
            decision = self._decide(replace(world, round=body), found)
            body, more = self._store(body, read_status(body), decision, fence=False)
            written += more
        return Pass(body["metadata"]["resourceVersion"], decision.requeue_after, written)

    def _confirmed(self, world: World, before: RoundStatus | None) -> World:
        """Look anew at the pods of jobs that have just ended: their last words may not have come by the watch yet."""
        namespace = world.round["metadata"]["namespace"]
        pods = {name_of(pod): pod for pod in world.pods}
        for job in unconfirmed(world, before, self._backend):
            found = self._cluster.list(PODS, namespace, self._backend.pod_selector(name_of(job)))
            pods |= {name_of(pod): pod for pod in found}
        return replace(world, pods=in_order(pods.values()))

    def _explained(self, world: World, before: RoundStatus | None) -> World:
        """Ask why the pods of a waiting job are not there: only the Events of its controller tell (quota, account)."""
        namespace = world.round["metadata"]["namespace"]
        troubles = {}
        for job in podless(world, before, self._backend):
            of_job = f"involvedObject.uid={job['metadata']['uid']},type=Warning"
            found = self._cluster.list(EVENTS, namespace, fields=of_job)
            latest = max(found, key=lambda e: e.get("lastTimestamp") or "", default=None)
            if latest is not None:
                troubles[name_of(job)] = cut(latest.get("message", ""))
        return replace(world, troubles=troubles)

    def _decide(self, world: World, obstacle: Obstacle | None) -> Decision:
        now = self._clock()
        try:
            item = read_round(world.round)
        except InvalidRoundError as error:
            return refused(world, str(error), now)
        return decide(item, world, self._configuration, self._backend, now, obstacle)

    def _too_soon(self, world: World, before: RoundStatus | None, decision: Decision) -> timedelta | None:
        """Return how long to wait when there is nothing to store but progress, and some was stored just now."""
        if before is None or decision.writes or not _differ_in_progress_alone(before, decision.status):
            return None
        left = self._stored.left(world.uid)
        return timedelta(seconds=left) if left > 0 else None

    def _store(
        self, body: Json, before: RoundStatus | None, decision: Decision, *, fence: bool = True
    ) -> tuple[Json, int]:
        """Store the status and tell what is new in it. Raises ``ConflictError`` when ``body`` is old.

        ``fence``: writes may follow, so that the version matters though there is nothing to store.
        """
        if decision.status == before:
            return (self._newest(body) if fence and decision.writes else body), 0
        try:
            plain = status_body(body, decision.status)
            stored = self._cluster.replace_status(ROUNDS, body["metadata"]["namespace"], plain)
        except NotFoundError:
            raise ConflictError(f"round {name_of(body)} is gone", 409) from None
        self._learn(ROUNDS, stored)
        self._stored.note(body["metadata"]["uid"])
        for kind, reason, message in transitions(before, decision.status):
            structlog.get_logger().info(
                "transition",
                namespace=body["metadata"]["namespace"],
                round=name_of(body),
                reason=reason,
                message=message,
            )
            self._tell(event(body, kind, reason, message, self._clock()))
        return stored, 1

    def _newest(self, body: Json) -> Json:
        """Return the round, which must be the version that was looked at. A read: killed after it, nothing is lost."""
        now = self._cluster.get(ROUNDS, body["metadata"]["namespace"], name_of(body))
        if now is None or now["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(f"round {name_of(body)} has changed since it was looked at", 409)
        return now

    def _tell(self, body: Json) -> None:
        """Post an Event. One that is there was said before the operator was killed; one that is refused is a pity."""
        try:
            self._cluster.create(EVENTS, body["metadata"]["namespace"], body)
        except ClusterError as error:
            if not isinstance(error, AlreadyExistsError):
                structlog.get_logger().warning("event not posted", reason=body["reason"], error=str(error))

    def _write(self, body: Json, writes: Sequence[Write]) -> tuple[Obstacle | None, int]:
        """Make the writes in order, and count them; the first one that is hindered ends the pass, and is returned."""
        for made, write in enumerate(writes):
            if (obstacle := self._one(body, write)) is not None:
                return obstacle, made
        return None, len(writes)

    def _one(self, body: Json, write: Write) -> Obstacle | None:
        namespace = body["metadata"]["namespace"]
        try:
            if isinstance(write, Create):
                return self._create(body, write)
            if isinstance(write, Delete):
                self._cluster.delete(write.kind, namespace, write.name, uid=write.uid, foreground=write.foreground)
            else:
                self._learn(write.kind, self._cluster.patch(write.kind, namespace, write.name, _current(write, body)))
        except NotFoundError:
            # Gone meanwhile, which the watch will tell.
            return None
        return None

    def _create(self, body: Json, write: Create) -> Obstacle | None:
        namespace = body["metadata"]["namespace"]
        try:
            self._learn(write.kind, self._cluster.create(write.kind, namespace, write.body))
        except AlreadyExistsError:
            return self._taken(body, write)
        except ClusterError as error:
            if error.reason == NAMESPACE_TERMINATING and FINALIZER in body["metadata"].get("finalizers", []):
                # No Job can start any more to delete artefacts, and nothing may hold up the namespace.
                self._one(body, without_finalizer(body))
                return None
            if error.code in {_FORBIDDEN, _UNPROCESSABLE}:
                what = f"{write.body['kind']} {name_of(write.body)}"
                return Obstacle("CreationRefused", f"{what} was refused: {error}")
            raise
        return None

    def _taken(self, body: Json, write: Create) -> Obstacle | None:
        there = self._cluster.get(write.kind, body["metadata"]["namespace"], name_of(write.body))
        wanted = write.body["metadata"]["ownerReferences"][0]["uid"]
        if there is None:
            return None
        if owned_by(there, wanted):
            self._learn(write.kind, there)
            return None
        what = f"{write.body['kind']} {name_of(write.body)}"
        return Obstacle(
            "NameConflict",
            f"{what} is in the way: it does not belong to this round and is not touched; delete it or rename the round",
        )


def _current(write: Patch, body: Json) -> Json:
    """Return the patch for the version of the round that this pass has just stored."""
    if write.kind != ROUNDS:
        return write.body
    changed = {**write.body["metadata"], "resourceVersion": body["metadata"]["resourceVersion"]}
    return {**write.body, "metadata": changed}


def _differ_in_progress_alone(before: RoundStatus, after: RoundStatus) -> bool:
    silent = {"progress": {}, "progress_text": "", "solved_percent": ""}
    return before != after and before.model_copy(update=silent) == after.model_copy(update=silent)


class RateLimit:
    """Keys that were noted within the last ``seconds``; those before are forgotten, however many keys come and go."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}  # the oldest first
        self._lock = threading.Lock()

    def note(self, key: str) -> None:
        """Note that it was done now."""
        with self._lock:
            now = self._clock()
            self._until.pop(key, None)
            self._until[key] = now + self._seconds
            while self._until[first := next(iter(self._until))] <= now:
                del self._until[first]

    def left(self, key: str) -> float:
        """Return for how many seconds more it counts as done lately; 0 if it does not."""
        with self._lock:
            return max(self._until[key] - self._clock(), 0.0) if key in self._until else 0.0

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._until)

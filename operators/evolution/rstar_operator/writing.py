"""The writes of one pass over one object, a round or an evolution: its status, its Events, its children.

The status is stored only over the version that was read, and before all other writes. See ``reconcile`` for why a pass may
be interrupted anywhere, or be made twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import structlog

from rstar.cluster.api import (
    EVENTS,
    NAMESPACE_TERMINATING,
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    Json,
    Kind,
    NotFoundError,
)
from rstar.config import Settings
from rstar_operator.children.identity import owned_by
from rstar_operator.deciding.deletion import FINALIZER, without_finalizer
from rstar_operator.deciding.events import event
from rstar_operator.deciding.status import status_body
from rstar_operator.deciding.write_failures import WriteFailure, name_conflict
from rstar_operator.deciding.writes import Create, Delete, Patch
from rstar_operator.snapshot import name_of

OnStored = Callable[[Kind, Json], None]
"""Called with every object as our own write left it."""
Clock = Callable[[], datetime]
Transition = tuple[str, str, str]
"""Type, reason and message of an Event."""

REFUSALS: Final = frozenset({403, 422})
"""Codes of requests that a user must mend: forbidden by a right, a quota or a policy, and invalid objects."""


class Writer:
    """Writes for the objects of one ``kind``. Safe to share between threads."""

    def __init__(self, cluster: Cluster, kind: Kind, word: str, on_stored: OnStored, clock: Clock) -> None:
        """``word`` names an object of the kind in sentences and logs: round or evolution."""
        self._cluster = cluster
        self._kind = kind
        self._word = word
        self._on_stored = on_stored
        self._clock = clock

    def store(self, body: Json, status: Settings, transitions: Iterable[Transition]) -> Json:
        """Store the status, post an Event per transition, and return the object as it is then.

        Raises ``ConflictError`` when ``body`` is old.
        """
        namespace = body["metadata"]["namespace"]
        try:
            stored = self._cluster.replace_status(self._kind, namespace, status_body(body, status))
        except NotFoundError:
            raise ConflictError(f"{self._word} {name_of(body)} is gone", 409) from None
        self._on_stored(self._kind, stored)
        for kind, reason, message in transitions:
            structlog.get_logger().info(
                "transition", namespace=namespace, reason=reason, message=message, **{self._word: name_of(body)}
            )
            self._post(event(body, kind, reason, message, self._clock()))
        return stored

    def newest(self, body: Json) -> Json:
        """Return the object, which must still have the version that was read. This writes nothing."""
        now = self._cluster.get(self._kind, body["metadata"]["namespace"], name_of(body))
        if now is None or now["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(f"{self._word} {name_of(body)} has changed since it was read", 409)
        return now

    def write(self, body: Json, writes: Sequence[Create | Delete | Patch]) -> tuple[WriteFailure | None, int]:
        """Make the writes in order and count them. The first failure ends the pass and is returned."""
        for made, write in enumerate(writes):
            if (failure := self._write_one(body, write)) is not None:
                return failure, made
        return None, len(writes)

    def _post(self, body: Json) -> None:
        """Post an Event. If it exists, it was posted before the operator was killed; a refused one is only logged."""
        try:
            self._cluster.create(EVENTS, body["metadata"]["namespace"], body)
        except ClusterError as error:
            if not isinstance(error, AlreadyExistsError):
                structlog.get_logger().warning("event not posted", reason=body["reason"], error=str(error))

    def _write_one(self, body: Json, write: Create | Delete | Patch) -> WriteFailure | None:
        namespace = body["metadata"]["namespace"]
        try:
            if isinstance(write, Create):
                return self._create(body, write)
            if isinstance(write, Delete):
                self._cluster.delete(write.kind, namespace, write.name, uid=write.uid, foreground=write.foreground)
            else:
                patch = self._for_version(write, body)
                self._on_stored(write.kind, self._cluster.patch(write.kind, namespace, write.name, patch))
        except NotFoundError:
            # Deleted meanwhile: the watch reports it.
            return None
        except ClusterError as error:
            if not isinstance(write, Patch) or error.code not in REFUSALS:
                raise
            return WriteFailure("ChangeRefused", f"the change of {write.kind.plural} {write.name} was refused: {error}")
        return None

    def _create(self, body: Json, write: Create) -> WriteFailure | None:
        namespace = body["metadata"]["namespace"]
        try:
            created = self._cluster.create(write.kind, namespace, write.body, dry_run=write.dry_run)
            if not write.dry_run:
                self._on_stored(write.kind, created)
        except AlreadyExistsError:
            return self._name_conflict(body, write)
        except ClusterError as error:
            if error.reason == NAMESPACE_TERMINATING and FINALIZER in body["metadata"].get("finalizers", []):
                # No Job can start any more to delete artefacts, and nothing may block the namespace.
                self._write_one(body, without_finalizer(body))
                return None
            if error.code in REFUSALS:
                if write.too_early and write.too_early in str(error):
                    raise ConflictError(f"{name_of(write.body)} is created too early: {error}", 409) from None
                what = f"{write.body['kind']} {name_of(write.body)}"
                return WriteFailure("CreationRefused", f"{what} was refused: {error}")
            raise
        return None

    def _name_conflict(self, body: Json, write: Create) -> WriteFailure | None:
        """Return the failure if the object that has the name is not the owner's own."""
        found = self._cluster.get(write.kind, body["metadata"]["namespace"], name_of(write.body))
        if found is None:
            return None
        if owned_by(found, write.body["metadata"]["ownerReferences"][0]["uid"]):
            self._on_stored(write.kind, found)
            return None
        return name_conflict(write.body["kind"], name_of(write.body), self._word)

    def _for_version(self, write: Patch, body: Json) -> Json:
        """Return the patch; one of the object itself is made for the version that this pass has just stored."""
        if (write.kind, write.name) != (self._kind, name_of(body)):
            return write.body
        changed = {**write.body["metadata"], "resourceVersion": body["metadata"]["resourceVersion"]}
        return {**write.body, "metadata": changed}

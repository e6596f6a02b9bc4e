"""The metadata of a child, with the round as its owner.

The garbage collector deletes the children of a deleted round, so that the operator needs no finalizer for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.rounds.spec import API_VERSION, KIND, EvolutionRound

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True, slots=True)
class Owner:
    """The round that owns a child, with its namespace and its uid."""

    round: EvolutionRound
    namespace: str
    uid: str

    @property
    def name(self) -> str:
        """The round's name."""
        return self.round.name

    @property
    def reference(self) -> Json:
        """The owner reference of the round's children."""
        return reference(API_VERSION, KIND, self.name, self.uid, blocking=True)


def reference(api_version: str, kind: str, name: str, uid: str, *, blocking: bool) -> Json:
    """Return an owner reference. ``blocking``: deleting the owner in the foreground waits for the child.

    Strict clusters then require the right to change the owner's finalizers.
    """
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": blocking,
    }


def queue_labels(owner: Owner) -> dict[str, str]:
    """Return the label by which Kueue admits an object, {} where the round names no queue."""
    queue = owner.round.spec.cluster.queue
    return {QUEUE_LABEL: queue} if queue else {}


def metadata(
    owner: Owner, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the metadata of a child of the round."""
    found: dict[str, Any] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner.reference],
    }
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def owned_by(body: Mapping[str, Any], uid: str) -> bool:
    """Return whether the object's controller has this uid. A name or a label would prove nothing."""
    references = body["metadata"].get("ownerReferences", [])
    return any(item["uid"] == uid and item.get("controller") for item in references)

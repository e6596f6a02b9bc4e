"""Who a child belongs to: its metadata, with the round as its owner.

The garbage collector deletes what a deleted round owns, so that the operator needs no finalizer for it. The module
refuses to say what a child is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rstar.cluster.api import Json
from rstar.rounds.spec import API_VERSION, KIND, EvolutionRound


@dataclass(frozen=True, slots=True)
class Owner:
    """A round as its children see it: what was asked, where it lives, and which object of that name it is."""

    round: EvolutionRound
    namespace: str
    uid: str

    @property
    def name(self) -> str:
        """The round's name."""
        return self.round.name

    @property
    def reference(self) -> Json:
        """The owner reference of what belongs to the round."""
        return reference(API_VERSION, KIND, self.name, self.uid, blocking=True)


def reference(api_version: str, kind: str, name: str, uid: str, *, blocking: bool) -> Json:
    """Return an owner reference. ``blocking``: deleting the owner in the foreground waits for what it owns.

    Strict clusters ask for the right to change the finalizers of who is made to wait.
    """
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": blocking,
    }


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
    """Say whether the object's controller is the one of ``uid``: a name or a label proves nothing."""
    references = body["metadata"].get("ownerReferences", [])
    return any(item["uid"] == uid and item.get("controller") for item in references)

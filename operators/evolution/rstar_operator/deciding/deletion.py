"""The deletion of a round that asks for the deletion of its artefacts. Every other round needs the garbage collector only.

The round has the finalizer only while it asks. In a namespace that is itself being deleted no Job can start; the
finalizer is then removed (see ``reconcile``), so that it never blocks the namespace. An operator whose rights are
deleted with the namespace could be unable to remove the finalizer. It therefore never adds one and reports that; a
finalizer that the user has added is honoured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.cluster.api import JOBS, ROUNDS, Json
from rstar_operator.children.cleanup import cleanup_job
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.writes import Create, Patch, Write
from rstar_operator.snapshot import RoundSnapshot, deleting

FINALIZER: Final = "rstar.dev/artifacts"
ARTIFACTS_KEPT: Final = "ArtifactsKept"
"""Condition of a round whose artefacts are kept although it asks for their deletion."""
_RIGHTS_IN_NAMESPACE: Final = (
    "the operator's rights are in the round's namespace and may go before the round, which then could not be deleted: "
    f"the artefacts stay in the store, unless you add {FINALIZER} to metadata.finalizers and delete the round before "
    "its namespace"
)


@dataclass(frozen=True, slots=True)
class Deletion:
    """The writes of the deletion. ``message`` replaces the status's message while the artefacts are being deleted.

    ``kept_because``: why the artefacts are kept although the round asks for their deletion; empty: they are not.
    """

    writes: tuple[Write, ...] = ()
    message: str = ""
    kept_because: str = ""


def decide_deletion(owner: Owner, configuration: Configuration, snapshot: RoundSnapshot, *, idle: bool) -> Deletion:
    """Add or remove the finalizer; once a deleted round is ``idle``, delete its artefacts."""
    body = snapshot.round
    asked = owner.round.spec.cluster.deletion_policy == "DeleteArtifacts"
    present = FINALIZER in body["metadata"].get("finalizers", [])
    if not deleting(body):
        if asked == present:
            return Deletion()
        if asked and snapshot.rights_in_namespace:
            return Deletion(kept_because=_RIGHTS_IN_NAMESPACE)
        return Deletion((with_finalizer(body) if asked else without_finalizer(body),))
    if not present:
        return Deletion()
    if not asked:
        return Deletion((without_finalizer(body),))
    if not idle:
        return Deletion(message="the round is being deleted, then its artefacts")
    if snapshot.cleanup is None:
        return Deletion((Create(JOBS, cleanup_job(owner, configuration)),), "the artefacts are being deleted")
    conditions = {c["type"] for c in snapshot.cleanup.get("status", {}).get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return Deletion((without_finalizer(body),), "the artefacts are deleted")
    if "Failed" in conditions:
        hint = "see the logs of its pods; set spec.cluster.deletionPolicy to Keep to leave the artefacts"
        return Deletion(message=f"job {snapshot.cleanup['metadata']['name']} could not delete the artefacts: {hint}")
    return Deletion(message="the artefacts are being deleted")


def with_finalizer(body: Json) -> Patch:
    """Return the write that adds our finalizer, unless the round has changed since."""
    return _finalizers(body, [*body["metadata"].get("finalizers", []), FINALIZER])


def without_finalizer(body: Json) -> Patch:
    """Return the write that removes our finalizer and no other, unless the round has changed since."""
    return _finalizers(body, [f for f in body["metadata"].get("finalizers", []) if f != FINALIZER])


def _finalizers(body: Json, finalizers: list[str]) -> Patch:
    head = body["metadata"]
    changed = {"finalizers": finalizers, "resourceVersion": head["resourceVersion"]}
    return Patch(ROUNDS, head["name"], {"metadata": changed})

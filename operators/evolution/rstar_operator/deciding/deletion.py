"""The end of a round that asked for its artefacts to be deleted; every other round needs nothing but the collector.

The finalizer is there only while it is asked for. A namespace that is itself being deleted lets no Job start, and then
the finalizer goes (see ``reconcile``), so that it never blocks the namespace. An operator whose rights go with the
namespace may be unable to take it off: such a one never puts it on, says so, and honours one that the user has put
there. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rstar.cluster.api import JOBS, ROUNDS, Json
from rstar.rounds.status import Condition, RoundStatus, merge_conditions
from rstar_operator.children.cleanup import cleanup_job
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.writes import Create, Patch, Write
from rstar_operator.snapshot import World, deleting

FINALIZER: Final = "rstar.dev/artifacts"
KEPT: Final = "ArtifactsKept"
"""Condition of a round whose artefacts stay though it asked for their deletion."""
_WHY_KEPT: Final = (
    "the operator's rights are in the round's namespace and may go before the round, which then could not be deleted: "
    f"the artefacts stay in the store, unless you add {FINALIZER} to metadata.finalizers and delete the round before "
    "its namespace"
)


@dataclass(frozen=True, slots=True)
class Deletion:
    """``message`` replaces the status's while the artefacts are being deleted; ``kept``: they will not be."""

    writes: tuple[Write, ...] = ()
    message: str = ""
    kept: bool = False


def decide_deletion(owner: Owner, configuration: Configuration, world: World, *, idle: bool) -> Deletion:
    """Put the finalizer on or off, and see the artefacts off once the round is ``idle``."""
    asked = owner.round.spec.cluster.deletion_policy == "DeleteArtifacts"
    there = FINALIZER in world.round["metadata"].get("finalizers", [])
    if not deleting(world.round):
        if asked == there:
            return Deletion()
        if asked and world.fleeting:
            return Deletion(kept=True)
        return Deletion((with_finalizer(world.round) if asked else without_finalizer(world.round),))
    if not there:
        return Deletion()
    if not asked:
        return Deletion((without_finalizer(world.round),))
    if not idle:
        return Deletion(message="the round is being deleted, then its artefacts")
    if world.cleanup is None:
        return Deletion((Create(JOBS, cleanup_job(owner, configuration)),), "the artefacts are being deleted")
    conditions = {c["type"] for c in world.cleanup.get("status", {}).get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return Deletion((without_finalizer(world.round),), "the artefacts are deleted")
    if "Failed" in conditions:
        hint = "see the logs of its pods; set spec.cluster.deletionPolicy to Keep to leave the artefacts"
        return Deletion(message=f"job {world.cleanup['metadata']['name']} could not delete the artefacts: {hint}")
    return Deletion(message="the artefacts are being deleted")


def told_of_artifacts(status: RoundStatus, deletion: Deletion, now: datetime) -> RoundStatus:
    """Return the status that says whether the artefacts stay against the round's wish; what never was stays unsaid."""
    before = status.condition(KEPT)
    if deletion.kept:
        said = Condition(
            type=KEPT, status="True", reason="OperatorMayGoFirst", message=_WHY_KEPT, last_transition_time=now
        )
    elif before is not None:
        said = Condition(type=KEPT, status="False", reason="Cleared", last_transition_time=now)
    else:
        return status
    return status.model_copy(update={"conditions": merge_conditions(status.conditions, [said])})


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

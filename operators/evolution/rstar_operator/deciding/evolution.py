"""The decision of one pass over an evolution: the status to store, and the round to make next. Pure.

As a Deployment makes ReplicaSets, an evolution makes EvolutionRounds, one at a time and each from the one before it. It
never deletes one; a round that the user deletes is made again only if no later one exists. A change of the template
counts for the rounds that are not made yet, and what may change in a round (``MUTABLE``) also for the one at work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from rstar.cluster.api import ROUNDS, Json
from rstar.cluster.rounds import status_of, submission
from rstar.rounds.evolution import reason_to_stop, rung
from rstar.rounds.evolution_spec import KIND, LABEL, Evolution, rounds_of
from rstar.rounds.evolution_status import EvolutionPhase, EvolutionStatus, MethodAccuracy, RungStatus
from rstar.rounds.spec import API_VERSION, MUTABLE, EvolutionRound
from rstar.rounds.status import RoundStatus
from rstar.rounds.validation_errors import validation_messages
from rstar_operator.children.identity import owned_by, reference
from rstar_operator.deciding.evolution_status import (
    GONE,
    EvolutionFacts,
    build_evolution_status,
    read_evolution_status,
)
from rstar_operator.deciding.write_failures import WriteFailure, name_conflict, recorded_failure
from rstar_operator.deciding.writes import Create, Patch
from rstar_operator.snapshot import EvolutionSnapshot, deleting, name_of


@dataclass(frozen=True, slots=True)
class EvolutionDecision:
    """``status`` is stored first, then ``writes`` are made."""

    facts: EvolutionFacts
    status: EvolutionStatus
    writes: tuple[Create | Patch, ...] = ()

    @property
    def failure(self) -> WriteFailure | None:
        """The failure that the status shows."""
        return self.facts.failure

    def status_after(self, failure: WriteFailure | None) -> EvolutionStatus:
        """Return the status once the writes were tried: the same facts, with the write that failed."""
        return build_evolution_status(replace(self.facts, failure=failure))


def decide_evolution(snapshot: EvolutionSnapshot, now: datetime) -> EvolutionDecision:
    """Decide what the evolution of ``snapshot`` needs now."""
    body = snapshot.evolution
    before = read_evolution_status(body)
    generation = body["metadata"]["generation"]
    try:
        evolution = read_evolution(body)
        rounds = rounds_of(evolution)
    except ValueError as error:
        facts = EvolutionFacts(before, generation, now, "Failed", "InvalidSpec", str(error))
        return EvolutionDecision(facts, build_evolution_status(facts))
    bodies = {name_of(item): item for item in snapshot.rounds}
    children = [_Child(item, bodies.get(item.name), body) for item in rounds]
    facts = _judged(evolution, children, before, generation, now)
    writes = () if deleting(body) else tuple(_writes(children, body, facts))
    foreign = next((child for child in children if child.state == "foreign"), None)
    failure = recorded_failure(before) if writes else None
    if foreign is not None and facts.reason == "RoundStarting":
        # The watch reports when it goes. While an earlier round is at work, it is in nobody's way.
        failure, writes = name_conflict("EvolutionRound", foreign.item.name, "evolution"), ()
    facts = replace(facts, failure=failure)
    return EvolutionDecision(facts, build_evolution_status(facts), writes)


def read_evolution(body: Json) -> Evolution:
    """Return the evolution. Raises ``ValueError`` with one sentence per fault."""
    plain = {key: body[key] for key in ("apiVersion", "kind", "spec") if key in body}
    head = {key: body["metadata"][key] for key in ("name", "labels") if key in body["metadata"]}
    try:
        return Evolution.model_validate({"apiVersion": API_VERSION, "kind": KIND, **plain, "metadata": head})
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error, Evolution))) from None


@dataclass(frozen=True, slots=True)
class _Child:
    """A round as it should be, and its object if there is one."""

    item: EvolutionRound
    body: Json | None
    evolution: Json

    @property
    def state(self) -> Literal["missing", "mine", "orphan", "foreign"]:
        """Whose the object is. An orphan has the evolution's label and no controller: it is adopted."""
        if self.body is None:
            return "missing"
        if owned_by(self.body, self.evolution["metadata"]["uid"]):
            return "mine"
        head = self.body["metadata"]
        controlled = any(owner.get("controller") for owner in head.get("ownerReferences", []))
        labelled = head.get("labels", {}).get(LABEL) == name_of(self.evolution)
        return "orphan" if labelled and not controlled and not deleting(self.body) else "foreign"

    @property
    def status(self) -> RoundStatus | None:
        """The status of a round of the evolution, None of any other object."""
        return status_of(self.body) if self.body is not None and self.state in {"mine", "orphan"} else None


def _judged(
    evolution: Evolution, children: Sequence[_Child], before: EvolutionStatus | None, generation: int, now: datetime
) -> EvolutionFacts:
    """Return the state of the evolution by that of its latest round."""
    spec = evolution.spec
    last = max((i for i, child in enumerate(children) if child.status is not None), default=-1)
    ladder = tuple(_rung(child) for child in children[: last + 1])
    running = EvolutionFacts(
        before, generation, now, "Running", "", "", False, len(children), ladder, method=spec.stop_when.method
    )
    current = children[last].status if last >= 0 else None
    if current is not None and current.phase != "Succeeded":
        return _of_round(replace(running, current=current), children[last].item.name, current)
    if last + 1 == len(children):
        message = f"evolution {evolution.name} is complete: {len(children)} rounds"
        return replace(running, phase="Succeeded", reason="AllRoundsDone", message=message, ready=True)
    statuses = [child.status for child in children[: last + 1] if child.status is not None]
    if reason := reason_to_stop(spec.stop_when, [rung(status) for status in statuses]):
        message = f"evolution {evolution.name} ends after round {children[last].item.spec.round}: {reason}"
        return replace(running, phase="Succeeded", reason="StoppedEarly", message=message, ready=True)
    if spec.cancel:
        message = f"evolution {evolution.name} was cancelled: no further round is made, finished work is kept"
        return replace(running, phase="Failed", reason="Cancelled", message=message)
    if spec.suspend:
        message = f"suspended before round {children[last + 1].item.spec.round}"
        return replace(running, phase="Suspended", reason="Suspended", message=message)
    return replace(running, reason="RoundStarting", message=f"round {children[last + 1].item.name} is being made")


def _of_round(facts: EvolutionFacts, name: str, status: RoundStatus) -> EvolutionFacts:
    """Return the facts while the round ``name`` is at work, or once it has failed."""
    ready = status.condition("Ready")
    message = f"round {name}: {status.message}"
    if status.phase == "Failed":
        reason = "Cancelled" if ready is not None and ready.reason == "Cancelled" else "RoundFailed"
        return replace(facts, phase="Failed", reason=reason, message=message)
    phase: EvolutionPhase = "Suspended" if status.phase == "Suspended" else "Running"
    if ready is None:
        return replace(facts, phase=phase, reason="RoundWaiting", message=message)
    return replace(facts, phase=phase, reason=ready.reason, message=message, ready=ready.status == "True")


def _rung(child: _Child) -> RungStatus:
    number, name, status = child.item.spec.round, child.item.name, child.status
    if status is None:
        return RungStatus(round=number, name=name, phase=GONE)
    reached = rung(status)
    accuracy = tuple(MethodAccuracy(name=method, accuracy=value) for method, value in reached.accuracy.items())
    return RungStatus(round=number, name=name, phase=status.phase, coverage=reached.coverage, accuracy=accuracy)


def _writes(children: Sequence[_Child], body: Json, facts: EvolutionFacts) -> Iterator[Create | Patch]:
    """Yield the adoption of orphans, the changes of the round at work, and the next round.

    Before a round is made, the API server is asked about all later ones: a fault of the last must not be found days later.
    """
    for child in children:
        if child.state == "orphan" and child.body is not None:
            yield _adoption(child.body, body)
    at_work = next((c for c in reversed(children) if c.status is not None), None)
    if at_work is not None and at_work.status is not None and at_work.status.phase != "Succeeded":
        yield from _changes(at_work)
    if facts.reason == "RoundStarting":
        missing = children[len(facts.ladder) :]
        for later in missing[1:]:
            yield Create(ROUNDS, _body(later.item, body), dry_run=True)
        yield Create(ROUNDS, _body(missing[0].item, body))


def _body(item: EvolutionRound, evolution: Json) -> Json:
    """Return the object of a round, owned by its evolution."""
    found: Json = item.model_dump(mode="json", by_alias=True, exclude_unset=True)
    found["metadata"] |= {"namespace": evolution["metadata"]["namespace"], "ownerReferences": [_owner(evolution)]}
    return found


def _owner(evolution: Json) -> Json:
    return reference(API_VERSION, KIND, name_of(evolution), evolution["metadata"]["uid"], blocking=True)


def _adoption(orphan: Json, evolution: Json) -> Patch:
    """Return the patch that makes the evolution the controller, unless the round has changed since."""
    head = orphan["metadata"]
    owners = [*head.get("ownerReferences", []), _owner(evolution)]
    return Patch(
        ROUNDS, head["name"], {"metadata": {"ownerReferences": owners, "resourceVersion": head["resourceVersion"]}}
    )


def _changes(child: _Child) -> Iterator[Patch]:
    """Yield the patch of what the template changes in a round that exists."""
    assert child.body is not None
    try:
        wanted = submission(child.item, child.body, child.body["metadata"]["namespace"]).body.get("spec", {})
    except ValueError:
        return  # another version of the operator made it
    changed = {key: value for key, value in wanted.items() if key in MUTABLE}
    if child.body["spec"].get("cancel"):
        changed.pop("cancel", None)
    if changed and not deleting(child.body):
        yield Patch(ROUNDS, child.item.name, {"spec": changed})

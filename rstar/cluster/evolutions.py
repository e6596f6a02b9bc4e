"""The object of an evolution that a user submits: with ``store:`` URIs in place of the files on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from rstar.cluster.api import EVOLUTIONS, Json
from rstar.cluster.inputs import Input, with_store_uris
from rstar.cluster.rounds import Submission, merge_patch
from rstar.rounds.evolution_spec import NOT_IN_TEMPLATE, Evolution, EvolutionSpec, RoundChanges, rounds_of
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.validation_errors import validation_messages


def evolution_inputs(evolution: Evolution, known: dict[str, Input]) -> tuple[Evolution, list[Input]]:
    """Return the evolution with ``store:`` URIs instead of local paths, and the inputs to upload.

    ``perRound`` becomes the smallest patch per round that gives the same rounds; ``known`` as for ``with_store_uris``.
    Raises ``OSError``, and ``ValueError`` where the template by itself is no spec of a round.
    """
    spec = evolution.spec
    try:
        plain = {"round": 1, **spec.template}
        alone = EvolutionRound.model_validate(
            {"apiVersion": evolution.api_version, "kind": "EvolutionRound", "metadata": {"name": "r"}, "spec": plain}
        )
    except ValidationError as error:
        faults = "; ".join(validation_messages(error, EvolutionRound))
        raise ValueError(
            f"evolution {evolution.name}: the template by itself is no spec of a round: {faults}"
        ) from None
    moved = [with_store_uris(item, known) for item in (alone, *rounds_of(evolution))]
    template, *rounds = (_template(item) for item, _ in moved)
    patches = {number: merge_patch(template, wanted) for number, wanted in enumerate(rounds, 1)}
    changes = tuple(RoundChanges(round=number, spec=patch) for number, patch in patches.items() if patch)
    changed = spec.model_copy(update={"template": template, "per_round": changes})
    inputs = {item.key: item for _, found in moved for item in found}
    return evolution.model_copy(update={"spec": changed}), list(inputs.values())


def _template(item: EvolutionRound) -> dict[str, Any]:
    """Return a round's spec as plain data without the keys that belong to the evolution."""
    plain = item.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {key: value for key, value in plain.items() if key not in NOT_IN_TEMPLATE}


def evolution_submission(wanted: Evolution, existing: Json | None, namespace: str) -> Submission:
    """Return the request for ``wanted``, given the ``existing`` object of its name; see ``submission``.

    Raises ``ValueError`` when the object's spec cannot be compared.
    """
    spec = _plain(wanted.spec)
    head = {"name": wanted.name, **{key: value for key, value in (wanted.metadata.model_extra or {}).items() if value}}
    if existing is None:
        body = {"apiVersion": wanted.api_version, "kind": wanted.kind, "metadata": {**head, "namespace": namespace}}
        return Submission(wanted.name, "created", {**body, "spec": spec}, EVOLUTIONS)
    try:
        before = _plain(EvolutionSpec.model_validate(existing["spec"], extra="ignore"))
    except ValidationError as error:
        fault = validation_messages(error, EvolutionSpec)[0]
        raise ValueError(f"evolution {wanted.name} exists, and its spec is not one of this version: {fault}") from None
    for key in ("suspend", "cancel"):
        if key in before:
            spec.setdefault(key, before[key])
    patch = merge_patch(before, spec)
    body = {"spec": patch} if patch else {}
    return Submission(wanted.name, "configured" if body else "unchanged", body, EVOLUTIONS)


def _plain(spec: EvolutionSpec) -> dict[str, Any]:
    """Return a spec as plain data with its defaults; null stays in perRound, where it removes a key."""
    plain = spec.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in plain.items() if value is not None}


def rounds_without(evolutions: Sequence[Evolution], rounds: Iterable[EvolutionRound]) -> list[EvolutionRound]:
    """Return the rounds that belong to none of the evolutions."""
    theirs = {item.name for evolution in evolutions for item in rounds_of(evolution)}
    return [item for item in rounds if item.name not in theirs]

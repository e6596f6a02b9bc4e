"""An Evolution: one template from which several EvolutionRounds are made, each from the one before it.

The template is an EvolutionRound's spec without the number of the round and of the previous one. What differs in a round
is given for that round alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from rstar.config import Settings
from rstar.rounds.spec import NAME_PATTERN, EvolutionRound
from rstar.rounds.validation_errors import validation_messages

KIND: Final = "Evolution"
LABEL: Final = "rstar.dev/evolution"
"""Label of the rounds of an evolution: its name."""
STOP_WHEN: Final = "rstar.dev/stop-when"
"""Annotation of each round of an evolution: the evolution's rules to stop, as JSON. ``rstar run`` and ``rstar status`` read it."""

EVOLUTION_NAME_LENGTH: Final = 30
EvolutionName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=EVOLUTION_NAME_LENGTH)]
NOT_IN_TEMPLATE: Final = ("round", "previousRound", "suspend", "cancel")
REQUIRED_IN_TEMPLATE: Final = ("baseModel", "problems")


_WHOSE: Final = {
    "round": "an evolution numbers its rounds itself",
    "previousRound": "an evolution numbers its rounds itself",
    "suspend": "suspend belongs to the evolution's own spec",
    "cancel": "cancel belongs to the evolution's own spec",
}


class RoundChanges(Settings):
    """What differs in one round."""

    round: int = Field(ge=1, le=100, description="Number of the round.")
    spec: dict[str, Any] = Field(
        description="Keys of an EvolutionRound's spec that replace those of the template; objects are merged, null removes a key."
    )


class StopWhen(Settings):
    """When no further round is made. Every rule that is given is asked after each round but the first."""

    coverage_gain_below: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Stop after a round whose share of solved training problems is not by so much above the round before; unset: not asked.",
    )
    accuracy_gain_below: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Stop after a round whose accuracy by method is not by so much above the round before; unset: not asked.",
    )
    method: str | None = Field(
        default=None,
        max_length=40,
        description="Name of the evaluation method for accuracyGainBelow; unset: the last one of the evaluation.",
    )


class EvolutionSpec(Settings):
    """Several rounds of self-evolution."""

    rounds: int = Field(default=4, ge=1, le=100, description="Number of rounds; the paper has 4.")
    template: dict[str, Any] = Field(
        description="Spec of the rounds, as of an EvolutionRound, without round and previousRound."
    )
    per_round: tuple[RoundChanges, ...] = Field(
        default=(), max_length=100, description="What differs in single rounds."
    )
    stop_when: StopWhen = Field(
        default_factory=StopWhen, description="When to stop before the last round; unset: never."
    )
    suspend: bool | None = Field(
        default=None,
        description="true: the round at work releases all compute and waits; false: it goes on; unset: its own spec decides.",
    )
    cancel: bool | None = Field(
        default=None,
        description="true: end the round at work for good, and make no further one; finished work is kept.",
    )

    @model_validator(mode="after")
    def _numbered(self) -> EvolutionSpec:
        for key in REQUIRED_IN_TEMPLATE:
            if key not in self.template:
                raise ValueError(f"template.{key}: missing")
        places = [("template", self.template), *((f"perRound {c.round}", c.spec) for c in self.per_round)]
        for place, keys in places:
            if taken := [key for key in NOT_IN_TEMPLATE if key in keys]:
                raise ValueError(f"{place}: remove {taken[0]}: {_WHOSE[taken[0]]}")
        numbers = [changes.round for changes in self.per_round]
        if len(set(numbers)) != len(numbers):
            raise ValueError("perRound: each round may be given once")
        if above := [number for number in numbers if number > self.rounds]:
            raise ValueError(f"perRound: there is no round {above[0]}; rounds is {self.rounds}")
        return self


class EvolutionMetadata(Settings):
    """Metadata of the resource."""

    model_config = Settings.model_config | {"extra": "allow"}

    name: EvolutionName = Field(
        description="Name of the evolution: small letters, digits and '-', at most 30 characters; its rounds are NAME-r1, NAME-r2, ..."
    )


class Evolution(Settings):
    """The resource ``kind: Evolution``."""

    api_version: Literal["rstar.dev/v1alpha1"] = Field(description="Version of the kind.")
    kind: Literal["Evolution"] = Field(description="The kind.")
    metadata: EvolutionMetadata = Field(description="Metadata of the resource.")
    spec: EvolutionSpec = Field(description="What is evolved.")

    @property
    def name(self) -> str:
        """The evolution's name."""
        return self.metadata.name


def round_name(evolution: str, number: int) -> str:
    """Return the name of an evolution's round."""
    return f"{evolution}-r{number}"


def round_documents(evolution: Evolution) -> Iterator[dict[str, Any]]:
    """Yield the documents of the rounds, from the first on; they are not validated."""
    changes = {item.round: item.spec for item in evolution.spec.per_round}
    own = evolution.metadata.model_extra or {}
    asked = {"suspend": evolution.spec.suspend, "cancel": evolution.spec.cancel}
    asked = {key: value for key, value in asked.items() if value is not None}
    rules = evolution.spec.stop_when.model_dump_json(by_alias=True, exclude_none=True)
    for number in range(1, evolution.spec.rounds + 1):
        previous = {"previousRound": round_name(evolution.name, number - 1)} if number > 1 else {}
        yield {
            "apiVersion": evolution.api_version,
            "kind": "EvolutionRound",
            "metadata": {
                "name": round_name(evolution.name, number),
                "labels": {**(own.get("labels") or {}), LABEL: evolution.name},
                "annotations": {STOP_WHEN: rules},
            },
            "spec": {
                "round": number,
                **previous,
                **apply_patch(evolution.spec.template, changes.get(number, {})),
                **asked,
            },
        }


def rounds_of(evolution: Evolution) -> list[EvolutionRound]:
    """Return the rounds. Raises ``ValueError`` with one sentence per different fault."""
    rounds: list[EvolutionRound] = []
    faults: dict[str, None] = {}
    for content in round_documents(evolution):
        try:
            rounds.append(EvolutionRound.model_validate(content))
        except ValidationError as error:
            number = content["spec"]["round"]
            faults |= dict.fromkeys(f"round {number}: {text}" for text in validation_messages(error, EvolutionRound))
    if faults:
        raise ValueError("; ".join(faults))
    return rounds


def apply_patch(value: Any, patch: Any) -> Any:
    """Return ``value`` with ``patch`` merged into it, as JSON merge patch does (RFC 7396).

    >>> apply_patch({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None}, "d": [2]})
    {'a': {'c': 2}, 'd': [2]}
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if part is None:
            merged.pop(key, None)
        else:
            merged[key] = apply_patch(merged.get(key), part)
    return merged

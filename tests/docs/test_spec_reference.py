"""docs/spec.md is generated from the models of the spec, and documents every key."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import BaseModel

from rstar.rounds.reference import SECTIONS, spec_reference
from rstar.rounds.spec import EvolutionRoundSpec, Metadata
from tests.support.paths import ROOT

REFERENCE = ROOT / "docs" / "spec.md"


def test_the_reference_in_docs_is_the_one_generated_from_the_models() -> None:
    assert REFERENCE.read_text() == spec_reference(), "run: python -m rstar.rounds.reference > docs/spec.md"


def models_in(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = {model for field in annotation.model_fields.values() for model in models_in(field.annotation)}
        return {annotation, *inner}
    return {model for argument in get_args(annotation) for model in models_in(argument)}


@pytest.mark.parametrize("model", sorted(models_in(EvolutionRoundSpec) | {Metadata}, key=lambda model: model.__name__))
def test_every_object_of_the_spec_has_a_section(model: type[BaseModel]) -> None:
    assert model in {listed for _, listed in SECTIONS}


@pytest.mark.parametrize("model", [model for _, model in SECTIONS])
def test_every_key_is_in_the_reference_with_a_description(model: type[BaseModel]) -> None:
    for field in model.model_fields.values():
        assert field.description
        assert f"| `{field.alias}` |" in spec_reference()

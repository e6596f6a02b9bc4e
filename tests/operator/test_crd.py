"""The stored CRDs are generated from the models, in a form that an API server accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from pydantic import ValidationError
from rstar_operator.crd.definition import definition_yaml
from rstar_operator.crd.evolutions import evolution_crd
from rstar_operator.crd.rounds import round_crd
from rstar_operator.crd.rules import LIST_KEYS, RULES

from rstar.rounds.evolution_spec import NOT_IN_TEMPLATE, EvolutionSpec
from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.spec import MUTABLE, EvolutionRoundSpec, paper_search
from rstar.rounds.status import RoundStatus
from tests.support.paths import CRD, EVOLUTION_CRD

CRDS = ((round_crd(), CRD), (evolution_crd(), EVOLUTION_CRD))
VERSION = round_crd()["spec"]["versions"][0]
EVOLUTION_VERSION = evolution_crd()["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
SPEC = ROOT["properties"]["spec"]
STATUS = ROOT["properties"]["status"]
MINIMAL: dict[str, Any] = {"round": 1, "baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}

Path_ = tuple[str | int, ...]


def below(schema: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    """Yield every schema with its path in a document; entries of lists are entry 0, of maps key ``k``."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from below(child, (*path, name))
    if "items" in schema:
        yield from below(schema["items"], (*path, 0))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from below(schema["additionalProperties"], (*path, "k"))


NODES = list(below(ROOT))
EVOLUTION_NODES = list(below(EVOLUTION_VERSION["schema"]["openAPIV3Schema"]))
BOTH = pytest.mark.parametrize("nodes", [NODES, EVOLUTION_NODES], ids=["EvolutionRound", "Evolution"])
Nodes = list[tuple[Path_, dict[str, Any]]]


def label(path: Path_) -> str:
    return ".".join(map(str, path)) or "root"


def test_the_stored_crds_are_generated_from_the_models() -> None:
    for crd, path in CRDS:
        assert path.read_text() == definition_yaml(crd), "run: make crd"


def test_the_stored_crds_read_back_as_the_same_data() -> None:
    for crd, path in CRDS:
        assert yaml.safe_load(path.read_text()) == crd


def test_the_crds_are_kept_when_the_chart_is_removed() -> None:
    for crd, _ in CRDS:
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@BOTH
def test_the_schema_is_structural(nodes: Nodes) -> None:
    for path, schema in nodes:
        where = label(path)
        assert not {"$ref", "$defs", "allOf", "oneOf", "not", "title", "nullable", "const"} & schema.keys(), where
        assert not {"patternProperties", "propertyNames", "uniqueItems"} & schema.keys(), where
        assert schema.get("additionalProperties") is not False, where
        assert not {"properties", "additionalProperties"} <= schema.keys(), where
        assert ("type" in schema) != ("x-kubernetes-int-or-string" in schema), where
        assert ("anyOf" in schema) == ("x-kubernetes-int-or-string" in schema), where
        assert (schema.get("type") == "array") == ("items" in schema), where
        assert set(schema.get("x-kubernetes-list-map-keys", ())) <= set(schema.get("items", {}).get("required", ())), (
            where
        )
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            assert schema.get(exclusive, True) is True, where
            assert exclusive not in schema or bound in schema, where


@BOTH
def test_every_field_has_a_description(nodes: Nodes) -> None:
    fields = {path: schema for path, schema in nodes if path and path[-1] not in {0, "k", "metadata"}}
    assert [label(path) for path, schema in fields.items() if not schema.get("description")] == []


def test_only_measurements_may_have_keys_that_no_model_knows() -> None:
    def free(nodes: Nodes) -> set[str]:
        return {label(path) for path, schema in nodes if "x-kubernetes-preserve-unknown-fields" in schema}

    assert free(NODES) == {"status.progress", "status.stages.0.metrics"}
    assert free(EVOLUTION_NODES) == {"spec.perRound.0.spec"}  # null in it removes a key


def test_lists_with_keys_are_maps() -> None:
    keys = {label(path): schema.get("x-kubernetes-list-map-keys") for path, schema in NODES}
    assert keys["status.conditions"] == ["type"]
    assert keys["status.stages"] == ["name"]
    assert keys["spec.evaluate.methods"] == ["name"]


def test_every_rule_and_key_belongs_to_a_model_of_the_resource() -> None:
    models = (EvolutionRoundSpec, RoundStatus, EvolutionSpec, EvolutionStatus)
    names = {name for model in models for name in model.model_json_schema()["$defs"]}
    assert set(RULES) | set(LIST_KEYS) <= names | {"EvolutionRoundSpec", "EvolutionSpec"}


def test_the_template_of_an_evolution_has_every_field_of_a_round_but_those_of_the_evolution() -> None:
    fields = {path[2:] for path, _ in EVOLUTION_NODES if path[:2] == ("spec", "template")}
    assert fields == {
        path[1:] for path, _ in NODES if path[:1] == ("spec",) and not set(NOT_IN_TEMPLATE) & {*path[1:2]}
    }
    assert not any("default" in schema for path, schema in EVOLUTION_NODES if path[:2] == ("spec", "template"))


def test_every_rule_has_a_message() -> None:
    rules = [rule for _, schema in NODES for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) > 20
    assert all(rule.get("message") or rule.get("messageExpression") for rule in rules)


def test_every_field_may_change_or_has_a_rule_that_forbids_it() -> None:
    guarded = {
        rule["fieldPath"].removeprefix(".")
        for rule in SPEC["x-kubernetes-validations"]
        if "cannot change after creation" in rule.get("message", "")
    }
    assert guarded.isdisjoint(MUTABLE)
    assert guarded | MUTABLE == set(SPEC["properties"])


def test_every_text_that_rules_read_is_bounded() -> None:
    """The API server refuses rules whose cost it cannot bound."""
    texts = [schema for path, schema in below(SPEC) if schema.get("type") == "string" and "enum" not in schema]
    assert all("maxLength" in schema for schema in texts)
    assert all("maxItems" in schema for _, schema in below(SPEC) if schema.get("type") == "array")
    assert all("maxProperties" in schema for _, schema in below(SPEC) if "additionalProperties" in schema)


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """Fill in defaults as the API server does, from the outside in."""
    if isinstance(value, list):
        return [with_defaults(entry, schema["items"]) for entry in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    filled = {name: child["default"] for name, child in schema["properties"].items() if "default" in child} | value
    return {name: with_defaults(entry, schema["properties"][name]) for name, entry in filled.items()}


@pytest.mark.parametrize(
    "spec",
    [
        MINIMAL,
        MINIMAL | {"rollout": {"search": {}}, "evaluate": {"problems": {"uri": "hf:a/b"}, "methods": [{"name": "x"}]}},
        MINIMAL
        | {"services": {"ppm": {"autoscaling": {"maxReplicas": 3}}}, "cluster": {"tolerations": [{"key": "a"}]}},
    ],
)
def test_the_server_fills_in_the_defaults_of_the_models(spec: dict[str, Any]) -> None:
    filled = with_defaults(spec, SPEC)
    assert not list(Draft4Validator(SPEC).iter_errors(filled))
    assert EvolutionRoundSpec.model_validate(filled) == EvolutionRoundSpec.model_validate(spec)
    given_by_hand = EvolutionRoundSpec.model_validate(spec).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert filled == given_by_hand


def test_a_field_whose_default_depends_on_the_round_has_none_in_the_schema() -> None:
    rollout = SPEC["properties"]["rollout"]["properties"]
    assert "default" not in rollout["search"]
    assert "default" not in rollout["prompt"]
    assert f"extraRollouts {list(paper_search(4).extra_rollouts)}" in rollout["search"]["description"]


def nested(path: Path_, value: Any) -> Any:
    """Return ``value`` at ``path`` in otherwise empty data."""
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    return value


def refused_by_pydantic(path: Path_, value: Any) -> bool:
    try:
        EvolutionRoundSpec.model_validate(nested(path, value))
    except ValidationError as error:
        return any(tuple(found["loc"]) == path for found in error.errors())
    return False


def refused_by_schema(path: Path_, value: Any) -> bool:
    found = Draft4Validator(SPEC).iter_errors(nested(path, value))
    return any(tuple(error.absolute_path) == path for error in found)


NUMBERS = [(path, s) for path, s in below(SPEC) if s.get("type") in {"integer", "number"}]
TEXTS = [(path, s) for path, s in below(SPEC) if "pattern" in s and "k" not in path]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_schema_and_the_models_accept_the_same_numbers(data: st.DataObject) -> None:
    path, schema = data.draw(st.sampled_from(NUMBERS), label="field")
    bounds = [schema[bound] for bound in ("minimum", "maximum") if bound in schema]
    whole = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([b + d for b in bounds for d in (-1, 0, 1)] or [0])
    number: st.SearchStrategy[float] = whole
    if schema["type"] == "number":
        number |= st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(bounds).map(lambda b: b + 1e-9)
    value = data.draw(number, label="value")
    assert refused_by_schema(path, value) == refused_by_pydantic(path, value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_schema_and_the_models_accept_the_same_text(data: st.DataObject) -> None:
    path, schema = data.draw(st.sampled_from(TEXTS), label="field")
    alphabet = st.sampled_from("abZ019-._/@+ mGKki")
    fitting = st.from_regex(schema["pattern"].replace("$", r"\Z"), alphabet=st.sampled_from("abzZ019-._/mGihtps:"))
    value = data.draw(st.text(alphabet, max_size=40) | fitting, label="value")
    assert refused_by_schema(path, value) == refused_by_pydantic(path, value)


def test_every_column_shows_a_field_of_the_schema() -> None:
    columns = {column["name"]: column for column in VERSION["additionalPrinterColumns"]}
    shown = [name for name, column in columns.items() if not column.get("priority")]
    assert shown == ["Round", "Stage", "Progress", "Solved %", "Ready", "Reason", "Age"]
    for column in columns.values():
        field = re.fullmatch(r"\.(spec|status|metadata)\.(\w+).*", column["jsonPath"])
        assert field is not None
        root, name = field.groups()
        assert root == "metadata" or name in ROOT["properties"][root]["properties"]

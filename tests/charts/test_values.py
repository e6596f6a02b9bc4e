"""The charts' values have exactly the keys of their schemas, and every documented combination of values is valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.support.paths import CHARTS

NAMES = ["rstar", "rstar-tenant"]
COMBINATIONS = sorted(CHARTS.glob("*/ci/*-values.yaml"))

Data = dict[str, Any]


def schema_of(chart: str) -> Data:
    schema: Data = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return schema


def values_of(chart: str) -> Data:
    values: Data = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    return values


def merged(values: Data, overrides: Data) -> Data:
    """Merge the values of a file into those of the chart, as Helm does."""
    common = values.keys() & overrides.keys()
    objects = {key: merged(values[key], overrides[key]) for key in common if isinstance(values[key], dict)}
    return {**values, **overrides, **objects}


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, Data]]:
    """Yield every schema within a schema."""
    if isinstance(schema, dict):
        yield path, schema
        for key, part in schema.items():
            yield from subschemas(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from subschemas(part, f"{path}/{index}")


def resolved(schema: Data, part: Data) -> Data:
    return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


@pytest.mark.parametrize("chart", NAMES)
def test_every_object_of_the_schema_refuses_unknown_keys(chart: str) -> None:
    schema = schema_of(chart)
    Draft7Validator.check_schema(schema)
    for path, part in subschemas(schema):
        if "properties" in part and part.get("type") == "object":
            assert part.get("additionalProperties") is False, path


@pytest.mark.parametrize("chart", NAMES)
def test_the_schema_and_the_values_have_the_same_keys(chart: str) -> None:
    schema = schema_of(chart)

    def compare(part: Data, values: Data, path: str) -> None:
        properties = part.get("properties")
        if properties is None or not values:
            return
        keys = properties.keys() - {"global", "rstar-namespace"}
        assert keys == values.keys(), path
        for key in keys:
            if isinstance(values[key], dict) and key not in {"resources", "affinity"}:
                compare(resolved(schema, properties[key]), values[key], f"{path}.{key}")

    compare(schema, values_of(chart), chart)


@pytest.mark.parametrize("path", COMBINATIONS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_documented_values_fit_the_schema(path: Path) -> None:
    chart = path.parts[-3]
    values = merged(values_of(chart), yaml.safe_load(path.read_text()))
    assert [error.message for error in Draft7Validator(schema_of(chart)).iter_errors(values)] == []


@pytest.mark.parametrize("path", COMBINATIONS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_documented_values_differ_from_the_defaults_and_start_with_their_purpose(path: Path) -> None:
    assert path.read_text().startswith("# ")
    overrides = yaml.safe_load(path.read_text())
    values = values_of(path.parts[-3])
    assert path.stem == "default-values" or merged(values, overrides) != values
    assert f"({path.parts[-2]}/{path.name})" in (CHARTS / path.parts[-3] / "README.md").read_text() or not overrides


@pytest.mark.parametrize("chart", NAMES)
def test_both_charts_share_one_copy_of_the_network_policies(chart: str) -> None:
    library = CHARTS / chart / "charts" / "rstar-namespace"
    assert library.resolve() == CHARTS / "rstar" / "charts" / "rstar-namespace"
    chart_file = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    version = yaml.safe_load((library / "Chart.yaml").read_text())["version"]
    assert chart_file["dependencies"] == [{"name": "rstar-namespace", "version": version}]


def test_both_charts_have_the_same_network_policy_values() -> None:
    rstar, tenant = (values_of(name)["networkPolicies"] for name in NAMES)
    assert rstar == tenant


def test_the_labels_by_which_pods_are_selected_cannot_be_set() -> None:
    validator = Draft7Validator(schema_of("rstar"))
    for component in ("operator", "executor", "policy", "ppm", "search", "rounds"):
        assert validator.is_valid({component: {"podLabels": {"team": "maths"}}})
        assert not validator.is_valid({component: {"podLabels": {"app.kubernetes.io/component": "other"}}})

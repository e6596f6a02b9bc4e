"""Values: what the charts take is exactly what their schemas say, and every documented combination is among it."""

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


def merged(values: Data, over: Data) -> Data:
    """Return what Helm makes of the chart's values and those of a file."""
    both = {key: merged(values[key], over[key]) for key in values.keys() & over.keys() if isinstance(values[key], dict)}
    return {**values, **over, **both}


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, Data]]:
    """Yield every schema within a schema."""
    if isinstance(schema, dict):
        yield path, schema
        for key, part in schema.items():
            yield from parts(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from parts(part, f"{path}/{index}")


def resolved(schema: Data, part: Data) -> Data:
    return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


@pytest.mark.parametrize("chart", NAMES)
def test_no_object_takes_a_key_that_it_does_not_name(chart: str) -> None:
    schema = schema_of(chart)
    Draft7Validator.check_schema(schema)
    for path, part in parts(schema):
        if "properties" in part and part.get("type") == "object":
            assert part.get("additionalProperties") is False, path


@pytest.mark.parametrize("chart", NAMES)
def test_every_key_of_the_schema_has_a_value_and_the_other_way_round(chart: str) -> None:
    schema = schema_of(chart)

    def compare(part: Data, values: Data, path: str) -> None:
        properties = part.get("properties")
        if properties is None or not values:
            return
        named = properties.keys() - {"global", "rstar-namespace"}
        assert named == values.keys(), path
        for key in named:
            if isinstance(values[key], dict) and key not in {"resources", "affinity"}:
                compare(resolved(schema, properties[key]), values[key], f"{path}.{key}")

    compare(schema, values_of(chart), chart)


@pytest.mark.parametrize("path", COMBINATIONS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_documented_values_fit_the_schema(path: Path) -> None:
    chart = path.parts[-3]
    values = merged(values_of(chart), yaml.safe_load(path.read_text()))
    assert [error.message for error in Draft7Validator(schema_of(chart)).iter_errors(values)] == []


@pytest.mark.parametrize("path", COMBINATIONS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_documented_values_change_something_and_say_what_for(path: Path) -> None:
    assert path.read_text().startswith("# ")
    over = yaml.safe_load(path.read_text())
    values = values_of(path.parts[-3])
    assert path.stem == "default-values" or merged(values, over) != values
    assert f"({path.parts[-2]}/{path.name})" in (CHARTS / path.parts[-3] / "README.md").read_text() or not over


@pytest.mark.parametrize("chart", NAMES)
def test_both_charts_have_one_text_of_the_network_policies(chart: str) -> None:
    library = CHARTS / chart / "charts" / "rstar-namespace"
    assert library.resolve() == CHARTS / "rstar" / "charts" / "rstar-namespace"
    chart_file = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    version = yaml.safe_load((library / "Chart.yaml").read_text())["version"]
    assert chart_file["dependencies"] == [{"name": "rstar-namespace", "version": version}]


def test_network_values_are_the_same_in_both_charts() -> None:
    rstar, tenant = (values_of(name)["networkPolicies"] for name in NAMES)
    assert rstar == tenant

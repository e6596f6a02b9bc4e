"""skaffold.yaml builds every image of the charts and passes its name to the chart; the profiles' patches apply."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.support.paths import ROOT

CONFIG = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
VALUES = yaml.safe_load((ROOT / "charts/rstar/values.yaml").read_text())
IMAGES = {name: value["repository"] for name, value in VALUES["images"].items() if isinstance(value, dict)}

Data = dict[str, Any]


def patched(config: Data, patches: list[Data]) -> Data:
    """Apply ``add`` and ``remove`` of RFC 6902 to objects, as skaffold does with a profile."""
    config = copy.deepcopy(config)
    for patch in patches:
        *parents, last = patch["path"].strip("/").split("/")
        target: Any = config
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        if patch["op"] == "remove":
            del target[last]
        else:
            assert patch["op"] == "add"
            target[last] = patch["value"]
    return config


def test_every_image_of_the_chart_is_built_from_an_existing_dockerfile() -> None:
    artifacts = {artifact["image"]: artifact["docker"]["dockerfile"] for artifact in CONFIG["build"]["artifacts"]}
    assert artifacts.keys() == set(IMAGES.values())
    for dockerfile in artifacts.values():
        assert f"docker build -f {dockerfile} ." in (ROOT / dockerfile).read_text()


def test_the_chart_installs_the_images_that_are_built() -> None:
    (release,) = CONFIG["deploy"]["helm"]["releases"]
    expected = {}
    for name, repository in IMAGES.items():
        variable = repository.replace("/", "_")
        expected[f"images.{name}.repository"] = f"{{{{.IMAGE_REPO_{variable}}}}}"
        expected[f"images.{name}.tag"] = f"{{{{.IMAGE_TAG_{variable}}}}}"
    assert release["setValueTemplates"] == expected
    assert (ROOT / release["chartPath"] / "Chart.yaml").is_file()


def test_the_charts_schema_accepts_what_skaffold_sets() -> None:
    values: Data = {}
    for key in CONFIG["deploy"]["helm"]["releases"][0]["setValueTemplates"]:
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = "rstar"
    validator = Draft7Validator(json.loads((ROOT / "charts/rstar/values.schema.json").read_text()))
    assert list(validator.iter_errors(values)) == []
    values["images"]["policy"]["digest"] = "x"
    assert list(validator.iter_errors(values)) != []


@pytest.mark.parametrize("profile", CONFIG["profiles"], ids=lambda profile: profile["name"])
def test_every_profile_changes_the_release_and_its_values_files_exist(profile: Data) -> None:
    config = patched(CONFIG, profile["patches"])
    (release,) = config["deploy"]["helm"]["releases"]
    for path in release.get("valuesFiles", []):
        assert (ROOT / path).is_file()
    assert release != CONFIG["deploy"]["helm"]["releases"][0]


def test_the_gpu_profile_changes_the_images_with_models() -> None:
    (gpu,) = (profile for profile in CONFIG["profiles"] if profile["name"] == "gpu")
    artifacts = patched(CONFIG, gpu["patches"])["build"]["artifacts"]
    assert {a["image"] for a in artifacts if "buildArgs" in a["docker"]} == {"rstar/policy", "rstar/ppm", "rstar/jobs"}

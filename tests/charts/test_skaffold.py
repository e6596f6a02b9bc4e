"""skaffold.yaml builds every image that the charts use, tells the chart where they are, and its profiles fit the file."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

CONFIG = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
VALUES = yaml.safe_load((ROOT / "charts/rstar/values.yaml").read_text())
IMAGES = {name: value["repository"] for name, value in VALUES["images"].items() if isinstance(value, dict)}

Data = dict[str, Any]


def patched(config: Data, patches: list[Data]) -> Data:
    """Apply ``add`` and ``remove`` of RFC 6902 to objects, as skaffold does with a profile."""
    config = copy.deepcopy(config)
    for patch in patches:
        *way, last = patch["path"].strip("/").split("/")
        place: Any = config
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if patch["op"] == "remove":
            del place[last]
        else:
            assert patch["op"] == "add"
            place[last] = patch["value"]
    return config


def test_every_image_of_the_chart_is_built_from_a_dockerfile_that_is_there() -> None:
    artifacts = {artifact["image"]: artifact["docker"]["dockerfile"] for artifact in CONFIG["build"]["artifacts"]}
    assert artifacts.keys() == set(IMAGES.values())
    for dockerfile in artifacts.values():
        assert f"docker build -f {dockerfile} ." in (ROOT / dockerfile).read_text()


def test_every_image_that_is_built_is_the_one_that_is_installed() -> None:
    (release,) = CONFIG["deploy"]["helm"]["releases"]
    wanted = {}
    for name, repository in IMAGES.items():
        variable = repository.replace("/", "_")
        wanted[f"images.{name}.repository"] = f"{{{{.IMAGE_REPO_{variable}}}}}"
        wanted[f"images.{name}.tag"] = f"{{{{.IMAGE_TAG_{variable}}}}}"
    assert release["setValueTemplates"] == wanted
    assert (ROOT / release["chartPath"] / "Chart.yaml").is_file()


@pytest.mark.parametrize("profile", CONFIG["profiles"], ids=lambda profile: profile["name"])
def test_profiles_change_what_is_there_by_files_that_are_there(profile: Data) -> None:
    config = patched(CONFIG, profile["patches"])
    (release,) = config["deploy"]["helm"]["releases"]
    for path in release.get("valuesFiles", []):
        assert (ROOT / path).is_file()
    assert release != CONFIG["deploy"]["helm"]["releases"][0]


def test_gpu_images_are_those_that_hold_models() -> None:
    (gpu,) = (profile for profile in CONFIG["profiles"] if profile["name"] == "gpu")
    artifacts = patched(CONFIG, gpu["patches"])["build"]["artifacts"]
    assert {a["image"] for a in artifacts if "buildArgs" in a["docker"]} == {"rstar/policy", "rstar/ppm", "rstar/jobs"}

"""The images' Dockerfiles, which ``skaffold.yaml`` lists: what holds for each of them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rstar_testbed.node.images import images

from tests.support.paths import ROOT

IMAGES = images()
WITH_PYTHON = [name for name in IMAGES if name != "minio"]


def text_of(name: str) -> str:
    return IMAGES[name].dockerfile.read_text()


def test_skaffold_builds_every_dockerfile_of_the_repository() -> None:
    folders = ("services", "jobs", "operators", "testbed")
    files = {path for folder in folders for path in (ROOT / folder).rglob("*Dockerfile")}
    assert {image.dockerfile for image in IMAGES.values()} == files


@pytest.mark.parametrize("name", IMAGES)
def test_a_container_runs_without_root_and_on_a_base_that_can_be_replaced(name: str) -> None:
    text = text_of(name)
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^ARG BASE=\S+$", text, re.MULTILINE)
    assert text.rsplit("\nFROM ", 1)[1].startswith("${BASE}\n")


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_versions_come_from_the_lock_and_the_image_says_what_it_is(name: str) -> None:
    text = text_of(name)
    lock = "requirements-vllm.lock" if name == "vllm" else "requirements.lock"
    assert f"--constraint {lock} --output-file /packages.txt" in text
    assert f'org.opencontainers.image.title="rstar/{name}"' in text
    assert (ROOT / lock).exists()


@pytest.mark.parametrize("name", ["executor", "openai", "operator", "search"])
def test_services_without_models_install_no_extra_that_needs_torch(name: str) -> None:
    extras = set(re.findall(r"--extra (\w+)", text_of(name)))
    assert extras <= {"executor", "openai", "operator", "tracing"}


def test_images_with_models_share_the_layer_of_their_packages() -> None:
    """The layer is the same when the stages before it and every instruction up to it are."""

    def before(name: str) -> tuple[str, ...]:
        _, tools, packages, *_, last = text_of(name).split("\nFROM ")
        return tools, packages, last.split("COPY --from=wheel")[0]

    assert len({before(name) for name in ("policy", "ppm", "jobs")}) == 1


def test_the_operator_imports_nothing_that_its_image_leaves_out() -> None:
    left_out = [name.replace("-", "_") for name in re.findall(r"--no-emit-package (\S+)", text_of("operator"))]
    assert left_out
    program = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({left_out}))  # None: an import raises.
import rstar_operator
for module in pkgutil.walk_packages(rstar_operator.__path__, "rstar_operator."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_package_of_the_operators_image_requires_one_that_is_left_out() -> None:
    """The installer would add it again. All packages are in the list but those left out, also what only these require."""
    left_out = {canonicalize_name(name) for name in re.findall(r"--no-emit-package (\S+)", text_of("operator"))}
    todo, seen = ["rstar-math[operator]"], set[str]()
    while todo:
        text = todo.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        for needed in map(Requirement, requires(name) or ()):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                installed_again = canonicalize_name(needed.name) in left_out and name not in left_out | {"rstar-math"}
                assert not installed_again, f"{name} requires {needed.name}"
                plain = f"{needed.name}[{','.join(needed.extras)}]" if needed.extras else needed.name
                if plain not in seen:
                    seen.add(plain)
                    todo.append(plain)
    assert {"kopf", "kubernetes", "sympy"} <= seen


def test_the_context_holds_what_the_dockerfiles_copy() -> None:
    kept = {line[1:] for line in Path(ROOT, ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for name in IMAGES
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text_of(name), re.MULTILINE)
        for word in line.split()
    }
    for path in copied:
        assert any(Path(path).match(pattern) or Path(pattern) in Path(path).parents for pattern in kept), path

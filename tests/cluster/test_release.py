"""A release made for real, of tiny images, with a real registry: pushed, described, pinned in the charts, tagged, resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.binaries import Binaries
from rstar_testbed.node.registry import Registry
from rstar_testbed.processes import free_port

from release.version import PLACES, write_version
from tests.support.cluster.rendering import run
from tests.support.paths import ROOT

VERSION = "7.8.9"
NEEDED = ("buildah", "git", "go", "make")
pytestmark = [
    pytest.mark.slow,  # syft and oras, which nothing else uses, take minutes to build.
    pytest.mark.skipif(any(shutil.which(each) is None for each in NEEDED), reason=f"needs {', '.join(NEEDED)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to build images"),
    pytest.mark.timeout(1800),
]

# Builds a wheel without any package from an index.
BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "rstar_math-VERSION-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("rstar_math-VERSION.dist-info/METADATA", "Metadata-Version: 2.1\\nName: rstar-math\\nVersion: VERSION\\n")
        wheel.writestr("rstar_math-VERSION.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("rstar_math-VERSION.dist-info/RECORD", "")
    return name

def build_sdist(folder, config_settings=None):
    import io, tarfile
    name = "rstar_math-VERSION.tar.gz"
    with tarfile.open(f"{folder}/{name}", "w:gz") as archive:
        for file in ("pyproject.toml", "backend.py"):
            archive.add(file, f"rstar_math-VERSION/{file}")
    return name
"""
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "rstar-math"
version = "0.1.0"
"""
# What syft reads: Debian's list of packages and a Python distribution.
DPKG = "Package: tiny-deb\nStatus: install ok installed\nVersion: 1.2-3\nArchitecture: all\nMaintainer: a\nDescription: d\n\n"
METADATA = "Metadata-Version: 2.1\nName: tiny-py\nVersion: 4.5.6\n"


@dataclass
class Place:
    """A repository that can be released, a registry, and the programs of a release."""

    root: Path
    registry: str
    environment: dict[str, str]

    def run(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True, check=False
        )

    def check(self, *command: str | Path) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "release", *arguments)

    def publish(self, *more: str) -> subprocess.CompletedProcess[str]:
        options = (f"--registry={self.registry}/lab", "--builder=buildah", "--plain-http")
        return self.release("publish", VERSION, *options, *more)

    def buildah(self, *arguments: str) -> str:
        return self.check("buildah", *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A repository with the charts and places of the project, and images of a few files on a base in the registry."""
    folder = tmp_path_factory.mktemp("release")
    binaries = Binaries()
    programs = folder / "bin"
    programs.mkdir()
    for name in ("helm", "oras", "syft"):
        (programs / name).symlink_to(binaries[name])
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    registry = Registry(folder, binaries["registry"], f"127.0.0.1:{free_port()}", folder / "registry")
    registry.wait()
    place = Place(folder / "repository", registry.address, environment)
    _write_base(place, folder / "base")
    _write_repository(place)
    yield place
    registry.stop()


def _write_base(place: Place, folder: Path) -> None:
    packages = folder / "usr/lib/python3.12/site-packages/tiny_py-4.5.6.dist-info"
    packages.mkdir(parents=True)
    (packages / "METADATA").write_text(METADATA)
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(DPKG)
    (folder / "etc").mkdir()
    (folder / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY usr /usr\nCOPY var /var\nCOPY etc /etc\n")
    place.root.mkdir()
    place.buildah("build", "--tag=base", str(folder))
    place.buildah("push", "--tls-verify=false", "base", f"docker://{place.registry}/base:1")


def _write_repository(place: Place) -> None:
    root = place.root
    for name in ("charts", "docs/kubernetes.md", "skaffold.yaml", "tests/cluster"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, root / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    for artifact in yaml.safe_load((root / "skaffold.yaml").read_text())["build"]["artifacts"]:
        dockerfile = root / artifact["docker"]["dockerfile"]
        dockerfile.parent.mkdir(parents=True, exist_ok=True)
        name = artifact["image"]
        dockerfile.write_text(
            f"ARG BASE={place.registry}/base:1\nFROM ${{BASE}}\nARG VERSION=0.1.0\nCOPY skaffold.yaml /{name}\n"
        )
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND.replace("VERSION", VERSION))
    (root / "Makefile").write_text(".PHONY: proto-breaking\nproto-breaking:\n")
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- New.\n")
    (root / ".gitignore").write_text("/dist/\n")
    place.check("git", "init", "--quiet", "--initial-branch=main")
    commit(place, "First")


def commit(place: Place, message: str) -> str:
    place.check("git", "add", "--all")
    place.check("git", "commit", "--quiet", f"--message={message}")
    return place.check("git", "rev-parse", "HEAD").strip()


def test_the_charts_own_suites_pass_with_the_next_version(tmp_path: Path) -> None:
    for name in ("charts", "docs", "jobs", "operators", "services", "tests/cluster"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write_version(tmp_path, "1.0.0-rc.1")
    for chart in ("rstar", "rstar-tenant"):
        run("helm-unittest", tmp_path / "charts" / chart)


def record(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.root / "dist" / VERSION / "release.json").read_text())
    return found


def test_a_commit_that_is_not_prepared_is_refused_before_any_work(place: Place) -> None:
    (place.root / "stray").write_text("")
    done = place.publish()
    (place.root / "stray").unlink()
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "release: Uncommitted changes: stray: commit or remove them."
    assert f"run 'python -m release prepare {VERSION}'" in lines[1]
    assert len(lines) == 3
    assert not (place.root / "dist").exists()


def test_a_dry_run_packages_charts_and_wheel_and_changes_nothing_else(place: Place, tmp_path: Path) -> None:
    done = place.publish("--dry-run", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "would run: buildah push" in done.stderr
    assert "release would be refused" in done.stderr
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*") if path.name != ".gitignore"} == {
        f"charts/rstar-{VERSION}.tgz",
        f"charts/rstar-tenant-{VERSION}.tgz",
        f"python/rstar_math-{VERSION}-py3-none-any.whl",
        f"python/rstar_math-{VERSION}.tar.gz",
    }
    assert place.check("oras", "repo", "ls", "--plain-http", place.registry).split() == ["base"]
    assert place.check("git", "tag") == ""
    assert place.check("git", "status", "--porcelain") == ""


@contextlib.contextmanager
def replaced(place: Place, name: str, complaint: str) -> Iterator[None]:
    """Put a program that always fails on the PATH."""
    folder = place.root.parent / f"broken-{name}"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\necho {complaint} >&2\nexit 1\n")
    (folder / name).chmod(0o755)
    real = place.environment["PATH"]
    place.environment["PATH"] = f"{folder}{os.pathsep}{real}"
    yield
    place.environment["PATH"] = real


@pytest.fixture(scope="module")
def released(place: Place) -> str:
    """The commit of a version that is prepared, committed and published; the first attempt is killed half way."""
    done = place.release("prepare", VERSION)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= len({each.files for each in PLACES}) - 2
    head = commit(place, f"Release {VERSION}")
    # A helm that always fails stands for a release that ends between the images and the charts.
    with replaced(place, "helm", "no space left"):
        failed = place.publish()
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (2, "release: helm package failed: no space left")
    # The dry run was Helm 3's.
    helm = place.root.parent / "bin/helm"
    helm.unlink()
    helm.symlink_to(Binaries()["helm4"])
    assert place.check("git", "tag") == ""
    done = place.publish()
    assert done.returncode == 0, done.stderr
    assert "buildah" not in done.stderr
    assert "release: image policy exists" in done.stderr
    assert record(place)["made"]["image"]["policy"]["digest"] in done.stdout
    return head


def test_every_image_is_in_the_registry_with_its_labels_and_its_base(place: Place, released: str) -> None:
    base = place.check("oras", "resolve", "--plain-http", f"{place.registry}/base:1").strip()
    images = record(place)["made"]["image"]
    assert images.keys() == {"policy", "ppm", "executor", "search", "openai", "jobs", "vllm", "operator", "minio"}
    for name, image in images.items():
        assert image["size"] > 0
        reference = f"{place.registry}/lab/rstar/{name}@{image['digest']}"
        config = json.loads(place.check("oras", "manifest", "fetch-config", "--plain-http", reference))
        labels = {
            key.removeprefix("org.opencontainers.image."): each for key, each in config["config"]["Labels"].items()
        }
        assert labels["version"] == VERSION
        assert labels["revision"] == released
        assert labels["base.name"] == f"{place.registry}/base:1"
        assert labels["base.digest"] == base
        assert "created" in labels


@pytest.mark.usefixtures("released")
def test_the_sbom_lists_the_packages_and_is_attached_to_the_image(place: Place) -> None:
    document = json.loads((place.root / "dist" / VERSION / "sbom/policy.spdx.json").read_text())
    versions = {package["name"]: package.get("versionInfo") for package in document["packages"]}
    assert (versions["tiny-deb"], versions["tiny-py"]) == ("1.2-3", "4.5.6")
    digest = record(place)["made"]["image"]["policy"]["digest"]
    reference = f"{place.registry}/lab/rstar/policy@{digest}"
    found = json.loads(place.check("oras", "discover", "--plain-http", "--format=json", reference))
    assert [each["artifactType"] for each in found["referrers"]] == ["application/spdx+json"]


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize("helm", ["helm", "helm4"])
def test_the_charts_of_the_registry_name_every_image_by_digest(place: Place, helm: str, tmp_path: Path) -> None:
    program = str(Binaries()[helm])
    images = {name: made["digest"] for name, made in record(place)["made"]["image"].items()}
    seen = set[str]()
    for chart, options in (
        ("rstar", ["--set=policy.enabled=true,policy.model=store:m,minio.enabled=true"]),
        ("rstar-tenant", ["--set=namespace=lab-a,minioUser.enabled=true,storage.endpoint=http://minio:9000"]),
    ):
        source = f"oci://{place.registry}/lab/charts/{chart}"
        place.check(program, "pull", "--plain-http", source, f"--version={VERSION}", f"--destination={tmp_path}")
        archive = tmp_path / f"{chart}-{VERSION}.tgz"
        text = place.check(program, "template", "r", archive, "--kube-version=v1.35.4", *options)
        for name, digest in images.items():
            full = f"{place.registry}/lab/rstar/{name}:{VERSION}"
            assert text.count(full) == text.count(f"{full}@{digest}")
            seen |= {name} if full in text else set()
    assert seen >= {"executor", "jobs", "minio", "operator", "policy"}


def test_the_tag_is_on_the_released_commit_and_a_second_run_makes_nothing(place: Place, released: str) -> None:
    assert place.check("git", "rev-parse", f"v{VERSION}^{{commit}}").strip() == released
    done = place.publish()
    assert done.returncode == 0
    assert all(line.endswith(" exists") for line in done.stderr.splitlines())


@pytest.mark.usefixtures("released")
def test_a_registry_that_gives_no_answer_has_not_lost_an_image(place: Place) -> None:
    with replaced(place, "oras", "connection refused"):
        done = place.publish()
    assert (done.returncode, done.stderr) == (2, "release: oras resolve failed: connection refused\n")


@pytest.mark.usefixtures("released")
def test_an_image_that_was_deleted_is_made_again_and_the_charts_after_it(place: Place) -> None:
    before = record(place)["made"]
    digest = before["image"]["search"]["digest"]
    place.check("oras", "manifest", "delete", "--force", "--plain-http", f"{place.registry}/lab/rstar/search@{digest}")
    done = place.publish()
    assert done.returncode == 0, done.stderr
    made = [line.split()[1:3] for line in done.stderr.splitlines()]
    assert (made.count(["buildah", "build"]), made.count(["helm", "push"])) == (1, 2)
    after = record(place)["made"]
    assert after["image"]["search"]["digest"] in done.stdout
    assert after["image"]["policy"] == before["image"]["policy"]


@pytest.mark.usefixtures("released")
def test_a_later_commit_is_not_released_as_the_same_version(place: Place) -> None:
    (place.root / "later").write_text("")
    commit(place, "Later")
    done = place.publish()
    assert done.returncode == 2
    assert f"The tag v{VERSION} exists" in done.stderr

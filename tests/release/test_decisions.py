"""What a release refuses, what it writes, which steps remain: decisions on plain data."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from release.checks import Facts, public_url, refusals
from release.commands import Builder, Settings, build_and_push, labels
from release.errors import ReleaseError
from release.images import check_registry, full_name, pinned, read_image, release_images, with_bases
from release.plan import FILE, Artefact, Kind, Record, Step, read_record, remaining, steps, write_record
from release.publish import chart_values, unpinned
from release.values import with_values
from release.version import PLACES, check_version, close_unreleased, has_entry, stated_versions, write_version
from tests.support.paths import CHARTS, ROOT

COMMIT = "c" * 40
DIGEST = f"sha256:{'a' * 64}"
READY = Facts(COMMIT, 0, (), True, "", "# Changelog\n\n## 0.2.0\n\n- New.\n", {"pyproject.toml:7": "0.2.0"}, "", ())
SETTINGS = Settings("0.2.0", "registry.example/lab", Builder.BUILDAH, (), False, COMMIT, 0, "https://git.example/r")


@pytest.mark.parametrize("version", ["0.2.0", "1.0.0-rc.1", "10.20.30-a.0"])
def test_a_version_that_python_and_helm_accept_is_accepted(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0rc1", "0.2.0-beta", "01.2.0", "0.2.0+local", "", "0.2.0\n"])
def test_a_version_that_one_of_them_refuses_is_refused(version: str) -> None:
    with pytest.raises(ReleaseError, match=r"write MAJOR\.MINOR\.PATCH"):
        check_version(version)


@pytest.mark.parametrize("registry", ["ghcr.io/lab", "localhost:5000/a/b_c", "registry.example"])
def test_a_registry_is_a_host_and_a_path(registry: str) -> None:
    check_registry(registry)


@pytest.mark.parametrize("registry", ["https://ghcr.io/lab", "ghcr.io/Lab", "ghcr.io/lab:1.0", "ghcr.io//lab", ""])
def test_another_text_is_no_registry(registry: str) -> None:
    with pytest.raises(ReleaseError, match=r"write HOST\[:PORT\]/PROJECT"):
        check_registry(registry)


def test_every_place_states_the_same_version() -> None:
    stated = stated_versions(ROOT)
    assert len(set(stated.values())) == 1
    assert len(stated) >= len(PLACES)


def test_prepare_leaves_the_old_version_of_an_image_nowhere(tmp_path: Path) -> None:
    kept = ("charts", "docs", "jobs", "operators", "services", "tests/cluster", "pyproject.toml")
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    (old,) = set(stated_versions(tmp_path).values())
    changed = write_version(tmp_path, "7.8.9")
    assert set(stated_versions(tmp_path).values()) == {"7.8.9"}
    for path in tmp_path.rglob("*"):
        if path.suffix in {".yaml", ".md", ".gotmpl", ".py"} and "results" not in path.parts:
            assert not re.search(rf"rstar/[\w$]+:{re.escape(old)}", path.read_text()), path
    assert "charts/rstar/Chart.yaml" in changed
    assert write_version(tmp_path, "7.8.9") == []


def test_a_commit_that_is_ready_is_not_refused() -> None:
    assert refusals("0.2.0", READY) == []
    assert refusals("0.2.0", replace(READY, tagged=COMMIT)) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (replace(READY, changed=("a.py", "b.py")), "Uncommitted changes: a.py, b.py: commit or remove them."),
        (replace(READY, on_main=False), "is not on main"),
        (replace(READY, tagged="d" * 40), "The tag v0.2.0 exists, at dddddddddddd"),
        (replace(READY, changelog="## 0.2.0\n\n## 0.1.0\n\n- Old.\n"), "has no section '## 0.2.0'"),
        (replace(READY, changelog="## 0.2.01\n\n- Other.\n"), "has no section '## 0.2.0'"),
        (replace(READY, stated={"pyproject.toml:7": "0.1.0"}), "pyproject.toml:7 states 0.1.0: run"),
        (
            replace(READY, wire="Field 3 was deleted."),
            "The wire contract breaks that of the last release, or they cannot be compared: Field 3",
        ),
        (replace(READY, missing=("syft",)), "syft is not on the PATH: https://"),
        (replace(READY, missing=("podman",)), "podman is not on the PATH: install it, or choose another --builder."),
    ],
)
def test_each_fault_is_refused_with_one_sentence(facts: Facts, sentence: str) -> None:
    (found,) = refusals("0.2.0", facts)
    assert sentence in found
    assert "\n" not in found


def test_the_changelog_gets_a_section_and_an_empty_one_for_what_comes() -> None:
    before = "# Changelog\n\n## Unreleased\n\n### Added\n\n- New.\n\n## 0.1.0\n\n- Old.\n"
    after = close_unreleased(before, "0.2.0")
    assert after == before.replace("## Unreleased\n", "## Unreleased\n\n## 0.2.0\n")
    assert close_unreleased(after, "0.2.0") == after
    assert has_entry(after, "0.1.0")
    with pytest.raises(ReleaseError, match="nothing under Unreleased"):
        close_unreleased(after, "0.3.0")


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://user:secret@git.example.org/lab/r.git", "https://git.example.org/lab/r"),
        ("git@git.example.org:lab/r.git", "https://git.example.org/lab/r"),
        ("ssh://git@git.example.org/lab/r", "https://git.example.org/lab/r"),
        ("/srv/git/r.git", ""),
        ("", ""),
    ],
)
def test_the_source_of_an_image_is_a_public_url_without_a_password(remote: str, url: str) -> None:
    assert public_url(remote) == url


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("python", "docker.io/library/python:latest"),
        ("nvidia/cuda:13", "docker.io/nvidia/cuda:13"),
        ("localhost:5000/base", "localhost:5000/base:latest"),
        (f"quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
    ],
)
def test_a_base_has_its_full_name_and_is_pinned_by_digest_alone(reference: str, full: str) -> None:
    assert full_name(reference) == full
    assert pinned(reference, DIGEST) == f"{re.sub(r'(:[^/:]*|@.*)$', '', full)}@{DIGEST}"


def test_the_projects_dockerfiles_take_every_base_as_an_argument() -> None:
    images = {image.name: image for image in release_images(ROOT)}
    assert images["executor"].bases == {"BASE": "python:3.12-slim"}
    assert images["minio"].bases.keys() == {"GO", "BASE"}
    assert all(image.runtime == "BASE" for image in images.values())


def test_a_base_that_no_argument_replaces_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"x/Dockerfile: FROM python:3 cannot be replaced by its digest"):
        read_image("rstar/x", "x/Dockerfile", "FROM python:3\n")
    image = read_image("rstar/x", "x/Dockerfile", "ARG BASE=a:1\nFROM ${BASE} AS one\nFROM one AS two\nFROM scratch\n")
    assert (image.bases, image.runtime, image.takes_version) == ({"BASE": "a:1"}, "", False)


def test_one_image_can_have_another_base() -> None:
    images = {image.name: image for image in with_bases(release_images(ROOT), ["policy=a/cuda:13", "jobs=b"])}
    assert [images[name].bases["BASE"] for name in ("policy", "jobs", "ppm")] == ["a/cuda:13", "b", "python:3.12-slim"]
    assert images["minio"].bases.keys() == {"GO", "BASE"}


@pytest.mark.parametrize("option", ["polcy=a:1", "policy", "policy="])
def test_a_base_for_no_image_is_refused(option: str) -> None:
    with pytest.raises(ReleaseError, match=f"--base {option}: write NAME=IMAGE, where NAME is one of policy, ppm"):
        with_bases(release_images(ROOT), [option])


@pytest.mark.parametrize("builder", Builder)
@pytest.mark.parametrize("platforms", [(), ("linux/amd64",), ("linux/amd64", "linux/arm64")])
def test_every_builder_gets_the_pinned_base_the_version_and_the_labels(
    builder: Builder, platforms: tuple[str, ...]
) -> None:
    settings = replace(SETTINGS, builder=builder, platforms=platforms)
    image = read_image("rstar/x", "x/Dockerfile", "ARG BASE=a/b:1\nFROM ${BASE}\nARG VERSION=0.1.0\n")
    digests = {"docker.io/a/b:1": DIGEST}
    stated = labels(settings, image, "2026-01-01T00:00:00Z", digests)
    build, *rest = build_and_push(settings, image, stated, digests, Path("scratch/digest"))
    assert {f"--build-arg=BASE=docker.io/a/b@{DIGEST}", "--build-arg=VERSION=0.2.0"} < set(build)
    assert {
        "--label=org.opencontainers.image.version=0.2.0",
        f"--label=org.opencontainers.image.revision={COMMIT}",
        "--label=org.opencontainers.image.created=2026-01-01T00:00:00Z",
        "--label=org.opencontainers.image.source=https://git.example/r",
        "--label=org.opencontainers.image.base.name=docker.io/a/b:1",
        f"--label=org.opencontainers.image.base.digest={DIGEST}",
    } == {option for option in build if option.startswith("--label")}
    assert [option for option in build if option.startswith("--platform")] == (
        [f"--platform={','.join(platforms)}"] if platforms else []
    )
    # Buildah takes cached layers of one platform for the other.
    assert ("--layers=false" in build) == (builder is not Builder.DOCKER and len(platforms) > 1)
    target = "registry.example/lab/rstar/x:0.2.0"
    assert f"--tag={target}" in build or rest[0][-1] == f"docker://{target}"


REAL_VALUES = (CHARTS / "rstar/values.yaml").read_text()
IMAGES = [name for name, each in yaml.safe_load(REAL_VALUES)["images"].items() if isinstance(each, dict)]


def test_the_charts_values_get_every_digest_and_keep_their_comments() -> None:
    values = chart_values(SETTINGS, dict.fromkeys(IMAGES, DIGEST), "rstar")
    written = with_values(REAL_VALUES, values)
    assert written.count("#") == REAL_VALUES.count("#")
    images = yaml.safe_load(written)["images"]
    assert images.pop("registry") == "registry.example/lab"
    assert {name: images[name]["tag"] for name in IMAGES} == dict.fromkeys(IMAGES, f"0.2.0@{DIGEST}")
    tenant = chart_values(SETTINGS, {"jobs": DIGEST}, "rstar-tenant")
    assert f"registry.example/lab/rstar/jobs:0.2.0@{DIGEST}" in with_values(
        (CHARTS / "rstar-tenant/values.yaml").read_text(), tenant
    )


KEYS = st.text("abc", min_size=1, max_size=3)


@given(st.dictionaries(KEYS, st.text("xyz0: #", max_size=4), min_size=1), KEYS)
def test_only_the_named_key_of_a_nested_file_changes(leaves: dict[str, str], parent: str) -> None:
    document: dict[str, Any] = {parent: {"deep": dict(leaves), "last": dict(leaves)}, "other": dict(leaves)}
    chosen = sorted(leaves)[0]
    text = "# Comment\n" + yaml.safe_dump(document, sort_keys=False)
    written = with_values(text, {f"{parent}.deep.{chosen}": "new"})
    document[parent]["deep"][chosen] = "new"
    assert yaml.safe_load(written) == document
    assert written.startswith("# Comment\n")


def test_a_key_that_the_values_lack_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"no line for images\.new\.tag"):
        with_values(REAL_VALUES, {"images.new.tag": "x"})


def test_an_image_without_a_digest_is_found_in_rendered_manifests() -> None:
    text = f'image: "r.example/rstar/a:1"\n--image=r.example/rstar/b:1@{DIGEST}\nimage: other/c:1\n'
    assert unpinned(text, "r.example") == ["r.example/rstar/a:1"]


ALL = steps(["a", "b"], ["chart"], "wheel", "0.2.0")
EMPTY = Record("0.2.0", COMMIT, "r")


def after(count: int) -> Record:
    record = EMPTY
    for step in ALL[:count]:
        record = record.including(step, Artefact(step.name, DIGEST, 1))
    return record


@given(st.integers(0, len(ALL)))
def test_a_release_that_was_killed_continues_after_the_last_recorded_step(done: int) -> None:
    assert remaining(ALL, after(done), []) == ALL[done:]


def test_charts_follow_all_images_and_the_tag_is_last() -> None:
    kinds = [step.kind for step in ALL]
    assert kinds.index(Kind.CHART) > max(i for i, kind in enumerate(kinds) if kind is Kind.IMAGE)
    assert ALL[-1] == Step(Kind.TAG, "v0.2.0")


def test_an_image_that_the_registry_lost_is_made_again_with_all_that_contains_its_digest() -> None:
    again = remaining(ALL, after(len(ALL)), [Step(Kind.IMAGE, "b")])
    assert again == (Step(Kind.IMAGE, "b"), Step(Kind.SBOM, "b"), Step(Kind.CHART, "chart"))


def test_a_record_is_read_back_for_the_same_commit_and_registry_only(tmp_path: Path) -> None:
    assert read_record(tmp_path, "0.2.0", COMMIT, "r") == EMPTY
    write_record(tmp_path, after(3))
    assert read_record(tmp_path, "0.2.0", COMMIT, "r") == after(3)
    assert read_record(tmp_path, "0.2.0", "d" * 40, "r").made == {}
    assert read_record(tmp_path, "0.2.0", COMMIT, "other").made == {}


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"made": {"image": {"a": {"colour": "red"}}}})])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ReleaseError, match=r"release\.json is damaged: delete it"):
        read_record(tmp_path, "0.2.0", COMMIT, "r")

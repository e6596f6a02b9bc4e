"""Make what remains of a release, step by step, from an export of the commit."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from release.checks import git
from release.commands import (
    Builder,
    Settings,
    attach,
    build_and_push,
    labels,
    manifest,
    push_chart,
    resolve,
    sbom,
)
from release.errors import ReleaseError
from release.images import Image, full_name
from release.plan import Artefact, Kind, Record, Step, read_record, remaining, steps, write_record
from release.programs import Programs, Report
from release.values import with_values
from release.version import CHANGELOG, close_unreleased, write_version

CHARTS: Final = ("rstar", "rstar-tenant")
DISTRIBUTION: Final = "rstar-math"
PLACEHOLDER: Final = f"sha256:{'0' * 64}"
"""Stands for a digest that a dry run cannot know."""

# A version for which the charts are rendered to be checked: Helm's own default may be older than they allow.
_KUBERNETES: Final = "1.35.0"


def export(root: Path, commit: str, target: Path) -> None:
    """Write the files of a commit into a new folder: what git does not know is not released."""
    target.mkdir(parents=True)
    archive = target.parent / f"{target.name}.tar"
    git(root, "archive", f"--output={archive}", commit)
    shutil.unpack_archive(archive, target)
    archive.unlink()


def prepare(root: Path, version: str) -> list[str]:
    """Write the version into the sources and the changelog; return the files that changed."""
    changelog = root / CHANGELOG
    before = changelog.read_text()
    after = close_unreleased(before, version)
    changed = write_version(root, version)
    if after != before:
        changelog.write_text(after)
        changed.append(CHANGELOG)
    return changed


def chart_values(settings: Settings, digests: Mapping[str, str], chart: str) -> dict[str, str]:
    """Return the values of a released chart that name images, by dotted key.

    The value is TAG@DIGEST: the digest decides, and a user's own ``images.NAME.tag`` replaces both.

    Args:
        settings: The release.
        digests: Of the images, by short name.
        chart: The chart's name.

    """
    if chart == "rstar":
        pins = {f"images.{name}.tag": f"{settings.version}@{digest}" for name, digest in digests.items()}
        return {"images.registry": settings.registry, **pins}
    return {"minioUser.image": f"{settings.registry}/rstar/jobs:{settings.version}@{digests['jobs']}"}


def unpinned(manifests: str, registry: str) -> list[str]:
    """Return the images of the registry that rendered manifests name without a digest."""
    found = re.findall(rf"{re.escape(registry)}/[\w./:@-]+", manifests)
    return sorted({image for image in found if "@sha256:" not in image})


@dataclass
class Publication:
    """A release being made.

    Attributes:
        root: The repository.
        sources: The export of the commit.
        output: Where charts, SBOMs, distributions and the record are written.
        images: The images to make.
        settings: Version, registry, builder.
        dry: Whether nothing outside of ``output`` may change.
        report: Takes a line of progress.

    """

    root: Path
    sources: Path
    output: Path
    images: Sequence[Image]
    settings: Settings
    dry: bool
    report: Report

    def run(self) -> Record:
        """Make what remains and return the record of everything. Raises :class:`ReleaseError`; a second run continues."""
        self.output.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        key = (settings.version, settings.commit, settings.registry)
        record = Record(*key) if self.dry else read_record(self.output, *key)
        planned = steps(list(self._images), CHARTS, DISTRIBUTION, settings.version)
        todo = remaining(planned, record, self._lost(record))
        for step in planned:
            if step not in todo:
                self.report(f"{step.kind} {step.name} exists")
        for step in todo:
            record = record.including(step, self._make(step, record))
            if not self.dry:
                write_record(self.output, record)
        return record

    @cached_property
    def _images(self) -> dict[str, Image]:
        return {image.name: image for image in self.images}

    @cached_property
    def _digests(self) -> dict[str, str]:
        """The digests of the public bases now, by full name. In a dry run without access to their registry: zeros."""
        found = {}
        for base in sorted({full_name(base) for image in self._images.values() for base in image.bases.values()}):
            local = self.settings.plain_http and base.startswith(f"{self.settings.registry.partition('/')[0]}/")
            command = resolve(base, local)
            if self.dry and not self._programs.answers(command):
                self.report(f"the digest of {base} cannot be read here: zeros stand for it")
                found[base] = PLACEHOLDER
            else:
                found[base] = self._programs.read(command).strip()
        return found

    @cached_property
    def _programs(self) -> Programs:
        environment = {"SOURCE_DATE_EPOCH": str(self.settings.date)}
        if self.settings.plain_http:
            environment["SYFT_REGISTRY_INSECURE_USE_HTTP"] = "true"
        return Programs(self.sources, self.dry, self.report, environment)

    def _lost(self, record: Record) -> list[Step]:
        """Return the recorded images and charts that the registry no longer has, and files that were deleted."""
        found = []
        for kind in (Kind.IMAGE, Kind.CHART):
            for name, artefact in record.made.get(kind, {}).items():
                reference = f"{artefact.name.rpartition(':')[0]}@{artefact.digest}"
                if not self._programs.exists(resolve(reference, self.settings.plain_http)):
                    found.append(Step(kind, name))
        for kind in (Kind.SBOM, Kind.DISTRIBUTION):
            for name, artefact in record.made.get(kind, {}).items():
                if not (self.output / artefact.name).exists():
                    found.append(Step(kind, name))
        return found

    def _make(self, step: Step, record: Record) -> Artefact:
        match step.kind:
            case Kind.IMAGE:
                return self._image(self._images[step.name])
            case Kind.SBOM:
                return self._sbom(self._images[step.name], record)
            case Kind.CHART:
                return self._chart(step.name, record)
            case Kind.DISTRIBUTION:
                return self._distribution()
            case Kind.TAG:
                return self._tag(step.name)

    def _image(self, image: Image) -> Artefact:
        settings = self.settings
        created = datetime.fromtimestamp(settings.date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with tempfile.TemporaryDirectory(prefix="release-") as scratch:
            file = Path(scratch, "digest")
            stated = labels(settings, image, created, self._digests)
            for command in build_and_push(settings, image, stated, self._digests, file):
                self._programs.outside(command)
            if self.dry:
                return Artefact(settings.reference(image), PLACEHOLDER)
            written = file.read_text().strip()
        digest = json.loads(written)["containerimage.digest"] if settings.builder is Builder.DOCKER else written
        return Artefact(settings.reference(image), digest, self._size(f"{settings.repository(image)}@{digest}"))

    def _size(self, reference: str) -> int:
        """Return the bytes of an image in its registry, of all its platforms together."""
        found: dict[str, Any] = json.loads(self._programs.read(manifest(reference, self.settings.plain_http)))
        repository = reference.partition("@")[0]
        if "manifests" in found:
            if len(found["manifests"]) < len(self.settings.platforms):
                raise ReleaseError(
                    f"{reference} lacks a platform: clear the cache of {self.settings.builder} and try again."
                )
            return sum(self._size(f"{repository}@{each['digest']}") for each in found["manifests"])
        return sum(each["size"] for each in (found["config"], *found["layers"]))

    def _sbom(self, image: Image, record: Record) -> Artefact:
        made = record.get(Kind.IMAGE, image.name)
        if made is None:
            raise ReleaseError(
                f"The image {image.name} is not recorded: delete the record, and everything is made again."
            )
        folder = self.output / "sbom"
        folder.mkdir(exist_ok=True)
        reference = f"{self.settings.repository(image)}@{made.digest}"
        files = []
        for platform in self.settings.platforms or (None,):
            suffix = f"-{platform.replace('/', '-')}" if platform else ""
            files.append(folder / f"{image.name}{suffix}.spdx.json")
            self._programs.outside(sbom(reference, files[-1], platform))
        self._programs.outside(attach(reference, files, self.settings.plain_http), folder)
        if self.dry:
            return Artefact(f"sbom/{files[0].name}", PLACEHOLDER)
        return Artefact(f"sbom/{files[0].name}", _sha256(files[0]), sum(file.stat().st_size for file in files))

    def _chart(self, name: str, record: Record) -> Artefact:
        settings = self.settings
        file = self.sources / "charts" / name / "values.yaml"
        digests = {image: made.digest for image, made in record.made[Kind.IMAGE].items()}
        file.write_text(with_values(file.read_text(), chart_values(settings, digests, name)))
        folder = self.output / "charts"
        self._programs.local(["helm", "package", f"charts/{name}", f"--destination={folder}"])
        archive = folder / f"{name}-{settings.version}.tgz"
        example = f"--values=charts/{name}/ci/default-values.yaml"
        rendered = self._programs.local(
            ["helm", "template", name, str(archive), example, f"--kube-version={_KUBERNETES}"]
        )
        if loose := unpinned(rendered, settings.registry):
            raise ReleaseError(f"The chart {name} names images without a digest: {', '.join(loose)}")
        self._programs.outside(push_chart(archive, settings))
        reference = f"{settings.registry}/charts/{name}:{settings.version}"
        if self.dry:
            return Artefact(reference, PLACEHOLDER, archive.stat().st_size)
        digest = self._programs.read(resolve(reference, settings.plain_http)).strip()
        return Artefact(reference, digest, archive.stat().st_size)

    def _distribution(self) -> Artefact:
        folder = self.output / "python"
        self._programs.local(["uv", "build", "--quiet", f"--out-dir={folder}"])
        wheel = _only(sorted(folder.glob("*.whl")))
        return Artefact(f"python/{wheel.name}", _sha256(wheel), wheel.stat().st_size)

    def _tag(self, tag: str) -> Artefact:
        settings = self.settings
        if not git(self.root, "rev-parse", "--quiet", "--verify", f"{tag}^{{commit}}", check=False):
            message = f"--message=rStar {settings.version}"
            self._programs.outside(["git", "-C", str(self.root), "tag", "--annotate", message, tag, settings.commit])
        return Artefact(tag, settings.commit)


def _only(files: Sequence[Path]) -> Path:
    if len(files) != 1:
        raise ReleaseError(
            f"One wheel was expected, and there are {[file.name for file in files]}: delete their folder."
        )
    return files[0]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"

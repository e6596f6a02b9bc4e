"""The commands that build, push and describe an image, as argument lists: for Docker, Buildah and Podman, oras and syft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from release.images import Image, full_name, pinned

SPDX: Final = "application/spdx+json"
Command = tuple[str, ...]


class Builder(StrEnum):
    """A program that builds images from Dockerfiles."""

    DOCKER = "docker"
    BUILDAH = "buildah"
    PODMAN = "podman"


@dataclass(frozen=True)
class Settings:
    """What a release is made with.

    Attributes:
        version: Such as ``0.2.0``.
        registry: Where images and charts go: ``HOST[:PORT]/PROJECT``.
        builder: The program that builds images.
        platforms: Such as ``linux/amd64``; empty: the builder's own.
        plain_http: Whether the registry has no TLS.
        commit: The released commit.
        date: Its committer date, seconds since 1970.
        source: The repository's public URL, or empty.

    """

    version: str
    registry: str
    builder: Builder
    platforms: tuple[str, ...]
    plain_http: bool
    commit: str
    date: int
    source: str = ""

    def repository(self, image: Image) -> str:
        """Return the full name of an image's repository."""
        return f"{self.registry}/{image.repository}"

    def reference(self, image: Image) -> str:
        """Return the full name of an image with its tag."""
        return f"{self.repository(image)}:{self.version}"


def labels(settings: Settings, image: Image, created: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that are known only at the release. ``digests``: of the public bases, by full name."""
    found = {
        "org.opencontainers.image.version": settings.version,
        "org.opencontainers.image.revision": settings.commit,
        "org.opencontainers.image.created": created,
    }
    if settings.source:
        found["org.opencontainers.image.source"] = settings.source
    if image.runtime:
        base = full_name(image.bases[image.runtime])
        found["org.opencontainers.image.base.name"] = base
        found["org.opencontainers.image.base.digest"] = digests[base]
    return dict(sorted(found.items()))


def build_and_push(
    settings: Settings, image: Image, stated: Mapping[str, str], digests: Mapping[str, str], digest_file: Path
) -> list[Command]:
    """Return the commands that build an image and push it; the last one writes its digest into ``digest_file``.

    Files keep the times at which the build writes them. A builder that sets them to the commit's date would invalidate the
    compiled bytecode of all packages, which is valid for the time of its source: programs would start slowly.

    Args:
        settings: The release.
        image: The image.
        stated: Its labels.
        digests: Of the public bases, by full name.
        digest_file: Docker writes JSON into it, the others the digest.

    """
    arguments = {name: pinned(base, digests[full_name(base)]) for name, base in image.bases.items()}
    if image.takes_version:
        arguments["VERSION"] = settings.version
    options = [
        f"--file={image.dockerfile}",
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *(f"--label={name}={value}" for name, value in stated.items()),
        *([f"--platform={','.join(settings.platforms)}"] if settings.platforms else []),
    ]
    target = settings.reference(image)
    if settings.builder is Builder.DOCKER:
        epoch = f"--build-arg=SOURCE_DATE_EPOCH={settings.date}"
        output = ("--provenance=false", "--push", f"--metadata-file={digest_file}")
        return [("docker", "buildx", "build", *options, epoch, f"--tag={target}", *output, ".")]
    program = str(settings.builder)
    transport = [] if not settings.plain_http else ["--tls-verify=false"]
    push = [*transport, f"--digestfile={digest_file}", target, f"docker://{target}"]
    if len(settings.platforms) > 1:
        # A list with a name of its own: one that a killed release has left would keep its images. Without cached layers:
        # Buildah would take those of one platform for the other.
        images = f"localhost/{image.repository}:{digest_file.parent.name}"
        return [
            (program, "build", "--layers=false", *transport, *options, f"--manifest={images}", "."),
            (program, "manifest", "push", "--all", *push[:-2], images, push[-1]),
        ]
    return [
        (program, "build", "--layers", *transport, *options, f"--tag={target}", "."),
        (program, "push", *push),
    ]


def resolve(reference: str, plain_http: bool) -> Command:
    """Return the command that prints the digest of a reference in its registry."""
    return ("oras", "resolve", *_plain(plain_http), reference)


def manifest(reference: str, plain_http: bool) -> Command:
    """Return the command that prints the manifest of a reference."""
    return ("oras", "manifest", "fetch", *_plain(plain_http), reference)


def sbom(image: str, file: Path, platform: str | None) -> Command:
    """Return the command that writes the SBOM of a pushed image, ``REPOSITORY@DIGEST``, as SPDX."""
    chosen = [f"--platform={platform}"] if platform else []
    return ("syft", "scan", "--quiet", *chosen, f"registry:{image}", f"--output=spdx-json={file}")


def attach(image: str, files: Sequence[Path], plain_http: bool) -> Command:
    """Return the command that attaches SBOMs to an image in the registry; run in the folder of the files."""
    named = [f"{file.name}:{SPDX}" for file in files]
    return ("oras", "attach", *_plain(plain_http), f"--artifact-type={SPDX}", image, *named)


def push_chart(archive: Path, settings: Settings) -> Command:
    """Return the command that pushes a packaged chart to ``REGISTRY/charts``."""
    return ("helm", "push", *_plain(settings.plain_http), str(archive), f"oci://{settings.registry}/charts")


def _plain(plain_http: bool) -> list[str]:
    return ["--plain-http"] if plain_http else []

"""The images of a release: from skaffold.yaml, with the public bases that their Dockerfiles name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from release.errors import ReleaseError

_HUB: Final = "docker.io"
SCRATCH: Final = "scratch"


@dataclass(frozen=True)
class Image:
    """An image: its repository below the registry, its Dockerfile, and what the Dockerfile says about its bases.

    Attributes:
        repository: Such as ``rstar/policy``.
        dockerfile: Relative to the repository's root.
        bases: Build arguments that FROM lines use, with their defaults: ``{"BASE": "python:3.12-slim"}``.
        runtime: The argument of the last stage's base; empty if the last stage begins with ``FROM scratch``.
        takes_version: Whether the Dockerfile declares ``ARG VERSION``.

    """

    repository: str
    dockerfile: str
    bases: Mapping[str, str]
    runtime: str
    takes_version: bool

    @property
    def name(self) -> str:
        """Its short name, such as ``policy``."""
        return self.repository.rpartition("/")[2]


def check_registry(registry: str) -> None:
    """Raise :class:`ReleaseError` unless this is ``HOST[:PORT]/PROJECT`` in the form that names of images have."""
    if not re.fullmatch(r"[A-Za-z0-9.-]+(?::\d+)?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*", registry):
        raise ReleaseError(f"{registry} is no place for images: write HOST[:PORT]/PROJECT, such as ghcr.io/lab.")


def release_images(root: Path) -> tuple[Image, ...]:
    """Return the images that ``skaffold.yaml`` lists. Raises :class:`ReleaseError` if a Dockerfile has a base of its own."""
    config = yaml.safe_load((root / "skaffold.yaml").read_text())
    artifacts: list[dict[str, Any]] = config["build"]["artifacts"]
    return tuple(
        read_image(each["image"], each["docker"]["dockerfile"], (root / each["docker"]["dockerfile"]).read_text())
        for each in artifacts
    )


def read_image(repository: str, dockerfile: str, text: str) -> Image:
    """Read the bases and arguments from a Dockerfile's text.

    Raises :class:`ReleaseError` for a base that is written into a FROM line: it could not be replaced by its digest.
    """
    head = re.split(r"^FROM ", text, maxsplit=1, flags=re.MULTILINE)[0]
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", head, re.MULTILINE))
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE)
    used, local, last = {}, {SCRATCH}, ""
    for base, alias in stages:
        argument = re.fullmatch(r"\$\{(\w+)\}", base)
        if argument and argument[1] in defaults:
            last = argument[1]
            used[last] = defaults[last]
        elif base in local:
            last = ""
        else:
            raise ReleaseError(
                f"{dockerfile}: FROM {base} cannot be replaced by its digest: write ARG BASE={base} and FROM ${{BASE}}."
            )
        local.add(alias)
    return Image(repository, dockerfile, used, last, re.search(r"^ARG VERSION\b", text, re.MULTILINE) is not None)


def with_bases(images: Iterable[Image], chosen: Iterable[str]) -> tuple[Image, ...]:
    """Return the images with other bases, given as ``NAME=IMAGE``. Raises :class:`ReleaseError` for a name without one."""
    found = {image.name: image for image in images}
    for each in chosen:
        name, _, base = each.partition("=")
        image = found.get(name)
        if image is None or not image.runtime or not base:
            known = ", ".join(name for name, image in found.items() if image.runtime)
            raise ReleaseError(f"--base {each}: write NAME=IMAGE, where NAME is one of {known}.")
        found[name] = replace(image, bases={**image.bases, image.runtime: base})
    return tuple(found.values())


def full_name(reference: str) -> str:
    """Return a reference with its registry and tag: ``python`` is ``docker.io/library/python:latest``."""
    name, at, digest = reference.partition("@")
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"{_HUB}/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"{_HUB}/{name}"
    if not at and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name + at + digest


def pinned(reference: str, digest: str) -> str:
    """Return the reference by digest alone: not every builder takes a tag and a digest together."""
    path, slash, last = full_name(reference).partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}@{digest}"

"""Versions, and the places of the repository that state the version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from release.errors import ReleaseError

_NUMBER: Final = r"(?:0|[1-9]\d*)"
VERSION: Final = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-(?:a|b|rc)\.{_NUMBER})?"
"""Valid for Python (PEP 440) and for Helm and the tag (SemVer): ``0.2.0``, or ``0.2.0-rc.1``."""

CHANGELOG: Final = "CHANGELOG.md"
_UNRELEASED: Final = "## Unreleased\n"


@dataclass(frozen=True)
class Place:
    """Files that state the version, as a glob, and the pattern whose only group is the version; some files may lack it."""

    files: str
    pattern: str


_IMAGE: Final = rf"rstar/[\w$]+:({VERSION})(?![\w.-])"
PLACES: Final = (
    Place("pyproject.toml", rf'^version = "({VERSION})"$'),
    Place("charts/*/Chart.yaml", rf"^version: ({VERSION})$"),
    Place("charts/*/Chart.yaml", rf"^appVersion: ({VERSION})$"),
    Place("services/*/*Dockerfile", rf"^ARG VERSION=({VERSION})$"),
    Place("jobs/Dockerfile", rf"^ARG VERSION=({VERSION})$"),
    Place("operators/*/Dockerfile", rf"^ARG VERSION=({VERSION})$"),
    Place("charts/*/*.*", _IMAGE),
    Place("charts/*/*/*.yaml", _IMAGE),
    Place("tests/cluster/*.py", _IMAGE),
    Place("docs/kubernetes.md", _IMAGE),
)


def check_version(version: str) -> None:
    """Raise :class:`ReleaseError` unless this is a version in the form of :data:`VERSION`."""
    if not re.fullmatch(VERSION, version):
        raise ReleaseError(
            f"{version} is no version that Python and Helm both accept: write MAJOR.MINOR.PATCH, such as 0.2.0, "
            "or with -a.N, -b.N or -rc.N after it."
        )


def stated_versions(root: Path) -> dict[str, str]:
    """Return every version that a place states, by ``FILE:LINE``. Raises :class:`ReleaseError` if a place has none."""
    found: dict[str, str] = {}
    for place in PLACES:
        stated = {
            f"{path.relative_to(root)}:{text.count(chr(10), 0, match.start()) + 1}": match[1]
            for path in sorted(root.glob(place.files))
            for text in (path.read_text(),)
            for match in re.finditer(place.pattern, text, re.MULTILINE)
        }
        if not stated:
            raise ReleaseError(f"No file {place.files} states the version: run this in the repository of rStar.")
        found |= stated
    return found


def write_version(root: Path, version: str) -> list[str]:
    """Write the version into every place and return the files that changed, relative to ``root``."""
    stated_versions(root)
    changed = set()
    for place in PLACES:
        for path in sorted(root.glob(place.files)):
            text = path.read_text()
            new = re.sub(place.pattern, lambda match: match[0].replace(match[1], version), text, flags=re.MULTILINE)
            if new != text:
                path.write_text(new)
                changed.add(str(path.relative_to(root)))
    return sorted(changed)


def has_entry(changelog: str, version: str) -> bool:
    """Return whether the changelog has a section for the version with something in it."""
    section = re.search(rf"^## {re.escape(version)}(?: .*)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return section is not None and bool(section[1].strip())


def close_unreleased(changelog: str, version: str) -> str:
    """Return the changelog with the section Unreleased made that of ``version``, and a new, empty one above it.

    A changelog that has an entry for the version stays as it is. Raises :class:`ReleaseError` if there is nothing to release.
    """
    if has_entry(changelog, version):
        return changelog
    if not has_entry(changelog, "Unreleased"):
        raise ReleaseError(f"{CHANGELOG} lists nothing under Unreleased: describe what {version} changes.")
    return changelog.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version}\n", 1)

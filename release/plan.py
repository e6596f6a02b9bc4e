"""The steps of a release, and which of them remain: a release that was killed continues where it was.

An artefact is made once per commit and registry. What was made is recorded after each step; a kill between a push and its
record makes that one artefact again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from release.errors import ReleaseError

FILE: Final = "release.json"


class Kind(StrEnum):
    """What a step makes."""

    IMAGE = "image"
    SBOM = "sbom"
    CHART = "chart"
    DISTRIBUTION = "distribution"
    TAG = "tag"


@dataclass(frozen=True)
class Step:
    """One artefact to make, by its kind and name."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Artefact:
    """An artefact that was made: its full name, its digest ``sha256:...`` or commit, and its size in bytes."""

    name: str
    digest: str
    size: int = 0


@dataclass(frozen=True)
class Record:
    """What was made of one commit for one registry, by kind and name."""

    version: str
    commit: str
    registry: str
    made: dict[str, dict[str, Artefact]] = field(default_factory=dict)

    def get(self, kind: Kind, name: str) -> Artefact | None:
        """Return an artefact that was made."""
        return self.made.get(kind, {}).get(name)

    def including(self, step: Step, artefact: Artefact) -> Record:
        """Return the record with one more artefact."""
        return replace(self, made={**self.made, step.kind: {**self.made.get(step.kind, {}), step.name: artefact}})


def steps(images: Sequence[str], charts: Sequence[str], distribution: str, version: str) -> tuple[Step, ...]:
    """Return all steps in their order.

    Charts come after all images, whose digests they contain. The tag comes last: a version without its tag is not released.
    """
    return (
        *(Step(kind, name) for name in images for kind in (Kind.IMAGE, Kind.SBOM)),
        *(Step(Kind.CHART, name) for name in charts),
        Step(Kind.DISTRIBUTION, distribution),
        Step(Kind.TAG, f"v{version}"),
    )


def remaining(all_steps: Iterable[Step], record: Record, lost: Iterable[Step]) -> tuple[Step, ...]:
    """Return the steps still to do, in order.

    Args:
        all_steps: From :func:`steps`.
        record: What was made.
        lost: Steps whose artefact is recorded and no longer exists. What contains its digest is made again.

    """
    lost = set(lost)
    todo = [step for step in all_steps if step in lost or record.get(step.kind, step.name) is None]
    images = {step.name for step in todo if step.kind is Kind.IMAGE}
    return tuple(
        step
        for step in all_steps
        if step in todo or (step.kind is Kind.SBOM and step.name in images) or (step.kind is Kind.CHART and images)
    )


def read_record(folder: Path, version: str, commit: str, registry: str) -> Record:
    """Return the record in a release's folder: empty if there is none, or if it is of another commit or registry.

    Raises :class:`ReleaseError` if the file is damaged.
    """
    path, empty = folder / FILE, Record(version, commit, registry)
    if not path.exists():
        return empty
    try:
        found = json.loads(path.read_text())
        made = {kind: {name: Artefact(**each) for name, each in of.items()} for kind, of in found["made"].items()}
        record = Record(found["version"], found["commit"], found["registry"], made)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ReleaseError(f"{path} is damaged: delete it, and everything is made again.") from None
    return record if replace(record, made={}) == empty else empty


def write_record(folder: Path, record: Record) -> None:
    """Write the record, complete or not at all."""
    partial = folder / f"{FILE}.partial"
    partial.write_text(json.dumps(asdict(record), indent=2) + "\n")
    partial.replace(folder / FILE)

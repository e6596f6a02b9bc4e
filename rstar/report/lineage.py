"""The lineage of checkpoints, from the manifests: pure."""

from __future__ import annotations

from collections.abc import Iterable

from rstar.report.data import Artefact
from rstar.report.stages import StageFolder, Stages

CHECKPOINT = "checkpoint"


def lineage(stages: Stages) -> tuple[Artefact, ...]:
    """Return every finished stage that is shown, round by round."""
    return tuple(
        found for of_round in stages.values() for folder in of_round.values() if (found := artefact(folder)) is not None
    )


def artefact(folder: StageFolder) -> Artefact | None:
    """Return a stage as a part of the lineage; None while it is unfinished."""
    manifest = folder.manifest
    if manifest is None:
        return None
    return Artefact(
        manifest=folder.manifest_key,
        digest=folder.digest,
        round=folder.round,
        stage=folder.stage.value,
        seed=manifest.seed,
        code_version=manifest.code_version,
        inputs={name: ref.key for name, ref in manifest.inputs.items()},
        sources=dict(manifest.sources),
        checkpoint=manifest.folder_digest(CHECKPOINT),
        files=len(manifest.outputs),
        size=sum(output.size for output in manifest.outputs),
        metrics=manifest.metrics,
    )


def ancestors(manifest: str, artefacts: Iterable[Artefact]) -> list[str]:
    """Return the manifests that ``manifest`` was made from, itself first, each once; unknown ones end a path."""
    by_key = {one.manifest: one for one in artefacts}
    found: list[str] = []
    waiting = [manifest]
    while waiting:
        key = waiting.pop(0)
        if key in found or key not in by_key:
            continue
        found.append(key)
        waiting += by_key[key].inputs.values()
    return found

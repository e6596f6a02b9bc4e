"""A stage with fixed settings and inputs: its folder in the store, whether it is done, and the manifest that ends it.

The folder is named by the digest of all settings and inputs that the result depends on: another spec or input is
another folder, and the same work is never done twice. A stage is done when its manifest is there and its files match
it; no report of a process counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar.rounds.manifest import Manifest, Output, canonical, describe_file, digest_of, read_manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.store.digests import MANIFEST, RUN_TIMES, file_digest, files_of
from rstar.store.store import Store

_WITHOUT_EFFECT = {
    "save_steps",
    "micro_batch_size",
    "gradient_checkpointing",
    "attention",
    "fsdp",
    "nodes",
    "processes_per_node",
}
"""Settings that change how a stage trains: its memory and speed, and only the rounding of its result."""


def stage_settings(spec: EvolutionRoundSpec, stage: Stage) -> dict[str, Any]:
    """Return the settings that the stage's result depends on; concurrency, replicas and the like are left out."""

    def plain(**settings: Any) -> dict[str, Any]:
        return {"round": spec.round, **settings}

    match stage:
        case Stage.ROLLOUT:
            search = spec.search.model_dump(mode="json")
            rollout = spec.rollout
            return plain(search=search, verifier=spec.verifier, shard_size=rollout.shard_size, prompt=rollout.prompt)
        case Stage.SELECT:
            return plain(**spec.select.model_dump(mode="json"), holds_out=spec.trains_ppm)
        case Stage.TRAIN_POLICY:
            return plain(**spec.train_policy.model_dump(mode="json", exclude=_WITHOUT_EFFECT))
        case Stage.TRAIN_PPM:
            settings = spec.train_ppm.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
            return plain(**settings, trains=spec.trains_ppm)
        case Stage.EVALUATE:
            methods = [method.model_dump(mode="json") for method in spec.evaluate.methods]
            return plain(methods=methods, verifier=spec.verifier)


@dataclass(frozen=True)
class StageRun:
    """A stage of a round with all that its result depends on.

    ``inputs`` are manifests by input name; ``sources`` are digests of what no stage made (problems, base model).
    """

    store: Store
    round: str
    stage: Stage
    seed: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, ManifestRef] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """The stage's folder in the store."""
        given = {name: ref.digest for name, ref in self.inputs.items()}
        identity = {"settings": dict(self.settings), "seed": self.seed, "inputs": given, "sources": dict(self.sources)}
        return f"rounds/{self.round}/{self.stage}/{digest_of(canonical(identity))[:16]}"

    def key(self, path: str) -> str:
        """Return the key of a file of the stage."""
        return f"{self.prefix}/{path}"

    def finished(self) -> tuple[ManifestRef, Manifest] | None:
        """Return the manifest if the stage is done: the manifest is there and every file matches it."""
        key = self.key(MANIFEST)
        try:
            data = self.store.read(key)
            manifest = read_manifest(data, key)
            if any(self.store.digest(self.key(output.path)) != output.sha256 for output in manifest.outputs):
                return None
        except (KeyError, ValueError):
            return None
        return ManifestRef(key, digest_of(data)), manifest

    def upload(self, path: Path, name: str) -> Output:
        """Store a file of the stage and return its entry for the manifest."""
        output = describe_file(path, name)
        self.store.upload(self.key(name), path, output.sha256)
        return output

    def upload_folder(self, folder: Path, name: str) -> list[Output]:
        """Store all files below ``folder`` under ``name/``."""
        return [self.upload(path, f"{name}/{relative}") for relative, path in files_of(folder)]

    def finish(self, outputs: Iterable[Output], metrics: Mapping[str, Any]) -> tuple[ManifestRef, Manifest]:
        """Write the manifest: from now on the stage is done."""
        manifest = Manifest(
            stage=self.stage,
            round=self.round,
            seed=self.seed,
            spec_digest=digest_of(canonical(self.settings)),
            inputs=dict(self.inputs),
            sources=dict(self.sources),
            outputs=tuple(sorted(outputs, key=lambda output: output.path)),
            metrics=dict(metrics),
        )
        data = manifest.to_bytes()
        self.store.write(self.key(MANIFEST), data)
        return ManifestRef(self.key(MANIFEST), digest_of(data)), manifest


def read_times(store: Store, prefix: str) -> dict[str, Any]:
    """Return the times of the stage in the folder ``prefix``; {} where there are none, or they cannot be read.

    Raises ``StoreError`` when the store does not answer.
    """
    try:
        found = json.loads(store.read(f"{prefix}/{RUN_TIMES}"))
    except (KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def load_input(store: Store, ref: ManifestRef, stage: Stage) -> Manifest:
    """Read the manifest of an input. Raises ``ValueError`` when it is missing, changed, or of another stage."""
    try:
        data = store.read(ref.key)
    except KeyError:
        raise ValueError(f"input {ref.key} is not in the store {store.uri}: run stage {stage} first") from None
    if digest_of(data) != ref.digest:
        raise ValueError(f"input {ref.key} has the digest {digest_of(data)}, not {ref.digest}: was it changed by hand?")
    manifest = read_manifest(data, ref.key)
    if manifest.stage is not stage:
        raise ValueError(f"input {ref.key} is a manifest of stage {manifest.stage}, not of {stage}")
    return manifest


def download_output(store: Store, ref: ManifestRef, manifest: Manifest, name: str, target: Path) -> Path:
    """Copy one file of an input to ``target``. Raises ``ValueError`` when it is missing or does not match its manifest."""
    output = manifest.output(name)
    key = f"{ref.prefix}/{name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(key, target)
    except KeyError:
        raise ValueError(f"{key} is listed in {ref.key} but not in the store {store.uri}") from None
    if file_digest(target) != output.sha256:
        raise ValueError(f"{key} does not match its manifest {ref.key}: was it changed by hand?")
    return target

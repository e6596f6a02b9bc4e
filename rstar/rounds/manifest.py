"""The manifest of a finished stage: its inputs, outputs and metrics as one canonical JSON object.

Its digest is the sha256 of its bytes. It names its inputs by their digests and holds no times, so that the same seed
and the same inputs give the same digest. It is the last file that a stage writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rstar.rounds.code_version import code_version
from rstar.rounds.observed import ManifestRef, Stage
from rstar.store.digests import file_digest, folder_digest

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Output(BaseModel):
    """A file that a stage wrote. ``path`` is relative to the manifest's folder, ``size`` in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """``sources`` are the digests of inputs that no stage made: the problems and the base model.

    A model on the hub is ``hf:ORG/NAME@COMMIT``; of a data set on the hub there is also the commit, by its URI.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Stage
    round: str
    seed: int
    code_version: str = Field(default_factory=code_version)
    spec_digest: Sha256
    inputs: dict[str, ManifestRef] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the canonical form: sorted keys, outputs sorted by path, one line."""
        data = self.model_dump(mode="json")
        data["outputs"].sort(key=lambda output: output["path"])
        return canonical(data)

    def output(self, path: str) -> Output:
        """Return the entry of one file. Raises ``ValueError`` when the stage did not write it."""
        for output in self.outputs:
            if output.path == path:
                return output
        raise ValueError(f"the manifest of {self.stage} of round {self.round} lists no file {path}")

    def folder_digest(self, folder: str) -> str:
        """Return ``checkpoint_digest`` of a folder of the outputs, from their digests alone; '' when it has no files."""
        return folder_digest(((output.path, output.sha256) for output in self.outputs), folder)


def read_manifest(data: bytes, name: str) -> Manifest:
    """Parse a manifest. Raises ``ValueError``, one sentence that names ``name``."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{name} is not a manifest of this version: {where}: {first['msg']}") from None


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return the one JSON text of plain data: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """Return the sha256 of ``data`` in hex."""
    return hashlib.sha256(data).hexdigest()


def describe_file(path: Path, name: str) -> Output:
    """Return the entry of a local file that is stored as ``name``."""
    return Output(path=name, sha256=file_digest(path), size=path.stat().st_size)

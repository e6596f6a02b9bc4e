"""The checkpoint from which a restarted training resumes, kept in the store while the stage runs.

The files are stored first, then ``resume/latest.json`` with their digests, so an incomplete checkpoint is never
loaded. Older checkpoints are deleted, and all of them when the stage is done.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from rstar.rounds.manifest import canonical
from rstar.rounds.stage import StageRun
from rstar.store.digests import file_digest, files_of

FOLDER = "resume"
_OTHER_PROCESS = re.compile(r"rng_state_(?!0\.)\d+\.pth")
"""Other processes may be writing these files now. A missing one only restarts that process's random generators."""


class ResumeStore:
    """The resumable state of one stage. Only process 0 writes."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage

    def save(self, folder: Path, step: int) -> None:
        """Store a checkpoint of the trainer and delete the earlier ones."""
        before = self._keys()
        files = {name: path for name, path in files_of(folder) if not _OTHER_PROCESS.fullmatch(name)}
        digests = {name: file_digest(path) for name, path in files.items()}
        for name, path in files.items():
            self._stage.store.upload(self._key(f"{step}/{name}"), path, digests[name])
        self._stage.store.write(self._key("latest.json"), canonical({"step": step, "files": digests}))
        current = (self._key("latest.json"), self._key(f"{step}/"))
        for key in before:
            if not key.startswith(current):
                self._stage.store.delete(key)

    def load(self, folder: Path) -> Path | None:
        """Copy the latest checkpoint to ``folder/checkpoint-STEP``; None when there is none or it is incomplete."""
        try:
            latest = json.loads(self._stage.store.read(self._key("latest.json")))
        except KeyError:
            return None
        target = folder / f"checkpoint-{latest['step']}"
        for name, digest in latest["files"].items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._stage.store.download(self._key(f"{latest['step']}/{name}"), path)
            except KeyError:
                return None
            if file_digest(path) != digest:
                return None
        return target

    def clear(self) -> None:
        """Delete everything: the stage is done."""
        for key in self._keys():
            self._stage.store.delete(key)

    def _keys(self) -> list[str]:
        return list(self._stage.store.list(self._key("")))

    def _key(self, name: str) -> str:
        return self._stage.key(f"{FOLDER}/{name}")

"""What a restarted training goes on from: the trainer's own checkpoint, kept in the store while the stage runs.

Files first, then ``resume/latest.json`` that names them with their digests: a checkpoint that is not whole is
never loaded. Older ones, and in the end all, are deleted. The module refuses to look inside.
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
"""Written by other processes, perhaps at this moment; a missing one only restarts that process's generators."""


class ResumeStore:
    """The resumable state of one stage. Only process 0 writes."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage

    def save(self, folder: Path, step: int) -> None:
        """Store a checkpoint of the trainer and forget the earlier ones."""
        before = self._keys()
        files = {name: path for name, path in files_of(folder) if not _OTHER_PROCESS.fullmatch(name)}
        digests = {name: file_digest(path) for name, path in files.items()}
        for name, path in files.items():
            self._stage.store.upload(self._key(f"{step}/{name}"), path)
        self._stage.store.write(self._key("latest.json"), canonical({"step": step, "files": digests}))
        current = (self._key("latest.json"), self._key(f"{step}/"))
        for key in before:
            if not key.startswith(current):
                self._stage.store.delete(key)

    def load(self, folder: Path) -> Path | None:
        """Copy the latest whole checkpoint to ``folder/checkpoint-STEP``; None when there is none."""
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
        """Forget everything: the stage is done."""
        for key in self._keys():
            self._stage.store.delete(key)

    def _keys(self) -> list[str]:
        return list(self._stage.store.list(self._key("")))

    def _key(self, name: str) -> str:
        return self._stage.key(f"{FOLDER}/{name}")

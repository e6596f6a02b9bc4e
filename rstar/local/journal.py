"""The driver's record of a round: its attempts and its last status, in one JSON file that outlives the driver.

The file is replaced atomically before an attempt starts and after it ends. Whether a stage is done is decided by the
store: an attempt whose manifest is gone, or that was started for another spec or other inputs, is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rstar.local.children import ProcessIdentity
from rstar.rounds.observed import Attempt, AttemptState, EndReason, ManifestRef, Stage, StageOutput
from rstar.rounds.spec import MUTABLE, EvolutionRoundSpec
from rstar.rounds.status import RoundStatus
from rstar.store.atomic import atomic_write

Inputs = Sequence[tuple[str, ManifestRef]]

_NO_PROGRESS: Final[dict[str, Any]] = {"progress": {}, "progress_text": "", "solved_percent": ""}


@dataclass(frozen=True, slots=True)
class Entry:
    """An attempt, the fingerprint of its spec and inputs, and its process."""

    attempt: Attempt
    fingerprint: str
    process: ProcessIdentity | None = None


def fingerprint(spec: EvolutionRoundSpec, inputs: Inputs) -> str:
    """Return a digest of the inputs and of all of the spec that may not change while the round runs.

    It is coarser than the stage's own digest: a stage that is started again needlessly finds its manifest and ends at once.
    """
    fixed = spec.model_dump(mode="json", by_alias=True, exclude=set(MUTABLE))
    given = {name: [ref.key, ref.digest] for name, ref in inputs}
    return hashlib.sha256(json.dumps([fixed, given], sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """The journal of one round, in ``folder/journal.json``."""

    def __init__(self, folder: Path) -> None:
        """Read the file; without one the round never ran."""
        self.folder = folder
        self._path = folder / "journal.json"
        content: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.number: int | None = content.get("round")
        self.entries = [_entry(item) for item in content.get("attempts", [])]
        self.status = RoundStatus.model_validate(content["status"]) if "status" in content else None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts alone."""
        return tuple(entry.attempt for entry in self.entries)

    def put(self, entry: Entry) -> None:
        """Add or replace an attempt, and write."""
        key = (entry.attempt.stage, entry.attempt.number)
        self.entries = [e for e in self.entries if (e.attempt.stage, e.attempt.number) != key] + [entry]
        self.write()

    def change(self, attempt: Attempt, **changes: Any) -> None:
        """Replace fields of an attempt, and write."""
        entry = next(e for e in self.entries if e.attempt == attempt)
        self.put(replace(entry, attempt=replace(attempt, **changes)))

    def put_status(self, number: int, status: RoundStatus) -> None:
        """Replace the status; the file is written only when more than the progress changed."""
        before = self.status
        self.number, self.status = number, status
        if before is None or before.model_copy(update=_NO_PROGRESS) != status.model_copy(update=_NO_PROGRESS):
            self.write()

    def write(self) -> None:
        """Replace the file atomically and durably."""
        content = {
            "round": self.number,
            "attempts": [_plain(entry) for entry in self.entries],
            "status": self.status.model_dump(mode="json", by_alias=True) if self.status else None,
        }
        text = json.dumps({key: value for key, value in content.items() if value is not None}, indent=1)
        with atomic_write(self._path) as file:
            file.write(text.encode())


def _plain(entry: Entry) -> dict[str, Any]:
    attempt = entry.attempt
    output = attempt.output
    return {
        "stage": attempt.stage.value,
        "number": attempt.number,
        "state": attempt.state.value,
        "startedAt": attempt.started_at.isoformat(),
        "finishedAt": attempt.finished_at.isoformat() if attempt.finished_at else None,
        "exitCode": attempt.exit_code,
        "reason": attempt.reason,
        "ending": attempt.ending.value if attempt.ending else None,
        "output": _plain_output(output) if output else None,
        "fingerprint": entry.fingerprint,
        "process": [entry.process.pid, entry.process.started] if entry.process else None,
    }


def _entry(item: dict[str, Any]) -> Entry:
    output = item["output"]
    attempt = Attempt(
        stage=Stage(item["stage"]),
        number=item["number"],
        state=AttemptState(item["state"]),
        started_at=datetime.fromisoformat(item["startedAt"]),
        finished_at=datetime.fromisoformat(item["finishedAt"]) if item["finishedAt"] else None,
        exit_code=item["exitCode"],
        reason=item["reason"],
        ending=EndReason(item["ending"]) if item["ending"] else None,
        output=_output(output) if output else None,
    )
    return Entry(attempt, item["fingerprint"], ProcessIdentity(*item["process"]) if item["process"] else None)


def _plain_output(output: StageOutput) -> dict[str, Any]:
    return {
        "manifest": output.manifest.key,
        "digest": output.manifest.digest,
        "codeVersion": output.code_version,
        "metrics": output.metrics,
    }


def _output(item: dict[str, Any]) -> StageOutput:
    return StageOutput(ManifestRef(item["manifest"], item["digest"]), item["metrics"], item["codeVersion"])

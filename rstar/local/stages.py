"""The attempts of one round's stages: started, watched, recorded in the journal.

An attempt is done when the store holds the manifest that its result names, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rstar.local.children import Child, end_orphan
from rstar.local.commands import Commands, StageFiles
from rstar.local.journal import Entry, Journal, fingerprint
from rstar.local.log_files import attempt_log
from rstar.local.log_tail import error_line
from rstar.rounds.documents import documents_text
from rstar.rounds.observed import (
    STAGES,
    Attempt,
    AttemptState,
    EndReason,
    EndStage,
    ManifestRef,
    Observed,
    PreviousRound,
    Stage,
    StageOutput,
    StartStage,
)
from rstar.rounds.plan import stage_inputs
from rstar.rounds.programs import json_object, read_result
from rstar.rounds.spec import EvolutionRound
from rstar.rpc.tracing import record_round, stage_environment
from rstar.store.store import Store

GRACE_SECONDS: Final = 60.0
"""After SIGTERM a stage may finish its shard or its training checkpoint."""

_DRIVER_ENDED: Final = "the driver ended before the stage"


class Stages:
    """Runs the stages of one round. Their files are in ``journal.folder``."""

    def __init__(self, item: EvolutionRound, store: Store, journal: Journal, commands: Commands) -> None:
        self.item = item
        self.journal = journal
        self._store = store
        self._commands = commands
        self._children: dict[tuple[Stage, int], Child] = {}

    def take_over(self, previous: PreviousRound) -> None:
        """Continue an earlier run: end its remaining processes, and keep the attempts that still count.

        Failed attempts no longer count against ``maxAttempts``. An attempt for another spec or other inputs, or whose
        manifest is no longer in the store, is dropped, and its stage runs again.
        """
        kept: list[Entry] = []
        for stage in STAGES:
            for entry in (e for e in self.journal.entries if e.attempt.stage is stage):
                if entry.process is not None and entry.attempt.live:
                    end_orphan(entry.process, GRACE_SECONDS)
                observed = Observed(attempts=tuple(e.attempt for e in kept), previous=previous)
                inputs = tuple(sorted(stage_inputs(self.item.spec, observed, stage).items()))
                if entry.fingerprint == fingerprint(self.item.spec, inputs) and self._is_in_store(entry.attempt):
                    kept.append(replace(entry, attempt=_ended(entry.attempt), process=None))
        self.journal.entries = kept
        self.journal.number = self.item.spec.round
        self.journal.write()
        text = documents_text([self.item.model_dump(mode="json", by_alias=True, exclude_unset=True)])
        (self.journal.folder / "round.yaml").write_text(text)

    def start(self, action: StartStage, search: Sequence[str]) -> None:
        """Start an attempt. It is in the journal before its process exists."""
        attempt = Attempt(action.stage, action.attempt, AttemptState.PENDING, datetime.now(UTC))
        entry = Entry(attempt, fingerprint(self.item.spec, action.inputs))
        self.journal.put(entry)
        files = _files(self.journal, attempt)
        files.result.parent.mkdir(parents=True, exist_ok=True)
        files.result.unlink(missing_ok=True)
        files.progress.unlink(missing_ok=True)
        launch = self._commands.stage(self.item.spec, action, files, search)
        child = Child(
            launch.command,
            self.log(attempt),
            {**launch.environment, **stage_environment(self._identity)},
            grace=GRACE_SECONDS,
            parent_death_signal=signal.SIGTERM,
        )
        self._children[action.stage, action.attempt] = child
        self.journal.put(replace(entry, attempt=replace(attempt, state=AttemptState.RUNNING), process=child.identity))

    def end(self, action: EndStage) -> None:
        """Send SIGTERM to an attempt, after recording why."""
        attempt = next(a for a in self.journal.attempts if (a.stage, a.number) == (action.stage, action.attempt))
        self.journal.change(attempt, ending=action.reason)
        self._children[action.stage, action.attempt].terminate()

    def kill(self) -> None:
        """Kill everything now."""
        for child in self._children.values():
            child.kill()
        self.observe()

    def record_trace(self, phase: str) -> None:
        """Record the span of the round, which has ended."""
        if attempts := self.journal.attempts:
            ended = max(attempt.finished_at or datetime.now(UTC) for attempt in attempts)
            record_round(self._identity, self.item.name, min(a.started_at for a in attempts), ended, phase)

    @property
    def _identity(self) -> str:
        return f"{self._store.uri} {self.item.name}"

    def observe(self) -> tuple[Attempt, ...]:
        """Poll the processes, record those that ended, and return all attempts."""
        for attempt in self.journal.attempts:
            child = self._children.get((attempt.stage, attempt.number))
            if attempt.live and child is not None and (code := child.poll()) is not None:
                self._finish(attempt, code)
        return self.journal.attempts

    def log(self, attempt: Attempt) -> Path:
        """Return the log file of an attempt."""
        return attempt_log(self.journal.folder, attempt.stage, attempt.number)

    def _finish(self, attempt: Attempt, code: int) -> None:
        result = read_result(code, _read(_files(self.journal, attempt).result))
        output = _stored(result.output, self._store)
        state, reason = AttemptState.FAILED, ""
        if output is not None:
            state = AttemptState.SUCCEEDED
        elif code == 0:
            reason = "it exited with code 0, but its result names no manifest in the store"
        else:
            reason = result.error or error_line(self.log(attempt)) or f"exit code {code}"
        self.journal.change(
            attempt,
            state=state,
            exit_code=result.exit_code,
            reason=reason,
            output=output,
            finished_at=datetime.now(UTC),
        )
        del self._children[attempt.stage, attempt.number]

    def _is_in_store(self, attempt: Attempt) -> bool:
        return attempt.output is None or _manifest(self._store, attempt.output.manifest) is not None


def read_progress(journal: Journal) -> dict[str, Any]:
    """Return the last progress of a round's live attempt; {} when there is none."""
    live = next((a for a in journal.attempts if a.live), None)
    return json_object(_read(_files(journal, live).progress)) if live else {}


def _files(journal: Journal, attempt: Attempt) -> StageFiles:
    folder = journal.folder / "attempts" / f"{attempt.stage}-{attempt.number}"
    return StageFiles(journal.folder / "round.yaml", folder / "result.json", folder / "progress.json")


def _ended(attempt: Attempt) -> Attempt:
    """Return an attempt of an earlier run: done, or ended in a way that neither counts nor delays the next attempt."""
    if attempt.done:
        return attempt
    finished = attempt.finished_at or datetime.now(UTC)
    return replace(
        attempt,
        state=AttemptState.FAILED,
        finished_at=finished,
        reason=attempt.reason or _DRIVER_ENDED,
        ending=EndReason.SUSPENDED,
    )


def _manifest(store: Store, ref: ManifestRef) -> bytes | None:
    """Return the manifest's bytes, or None when the store lacks it or has other bytes."""
    try:
        data = store.read(ref.key)
    except KeyError:
        return None
    return data if hashlib.sha256(data).hexdigest() == ref.digest else None


def _stored(output: StageOutput | None, store: Store) -> StageOutput | None:
    """Return the output with all metrics of its manifest (a result file is short), or None when the store lacks it."""
    data = _manifest(store, output.manifest) if output is not None else None
    if output is None or data is None:
        return None
    return replace(output, metrics=json.loads(data).get("metrics", {}))


def _read(path: Path) -> bytes:
    """Return the content of a file; b"" when there is none (yet)."""
    try:
        return path.read_bytes()
    except OSError:
        return b""

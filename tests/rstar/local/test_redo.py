"""Making a stage again: which files are deleted, and which texts name a stage."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rstar.local.journal import Entry, Journal
from rstar.local.redo import delete_output, parse_redo
from rstar.rounds.observed import Attempt, AttemptState, ManifestRef, Stage, StageOutput
from rstar.store.folder_store import FolderStore

KEYS = [
    "rounds/r1/rollout/current/manifest.json",
    "rounds/r1/rollout/current/trees/0.parquet",
    "rounds/r1/rollout/other-spec/manifest.json",
    "rounds/r1/rollout/other-spec/trees/0.parquet",
    "rounds/r1/rollout/unfinished/trees/0.parquet",
    "rounds/r1/select/current/manifest.json",
    "rounds/r10/rollout/current/manifest.json",
]


def journal_of(folder: Path) -> Journal:
    journal = Journal(folder)
    output = StageOutput(ManifestRef("rounds/r1/rollout/current/manifest.json", "d" * 64))
    attempt = Attempt(Stage.ROLLOUT, 1, AttemptState.SUCCEEDED, datetime.now(UTC), output=output)
    journal.put(Entry(attempt, "fingerprint"))
    return journal


def test_the_current_output_and_unfinished_ones_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for key in KEYS:
        store.write(key, b"x")
    assert delete_output(store, "r1", Stage.ROLLOUT, journal_of(tmp_path)) == 3
    assert sorted(store.list("rounds/")) == sorted([*KEYS[2:4], *KEYS[5:]])


def test_the_manifest_is_deleted_first(tmp_path: Path) -> None:
    class Recording(FolderStore):
        deleted: list[str] = []  # noqa: RUF012 - of one store

        def delete(self, key: str) -> None:
            self.deleted.append(key)
            super().delete(key)

    store = Recording(tmp_path / "store")
    for key in KEYS[:2]:
        store.write(key, b"x")
    delete_output(store, "r1", Stage.ROLLOUT, journal_of(tmp_path))
    assert store.deleted == KEYS[:2]


def test_a_stage_is_named_alone_or_with_its_round() -> None:
    assert parse_redo(["select"], ["r1", "r2"]) == [("r1", Stage.SELECT), ("r2", Stage.SELECT)]
    assert parse_redo(["r2/train-ppm"], ["r1", "r2"]) == [("r2", Stage.TRAIN_PPM)]


@pytest.mark.parametrize(("text", "word"), [("selekt", "no stage 'selekt'"), ("r3/select", "no round 'r3'")])
def test_an_unknown_stage_or_round_is_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_redo([text], ["r1"])

"""Deletion of a round's artefacts, by the command line on a folder store."""

from __future__ import annotations

from pathlib import Path

import pytest
from rstar_jobs.delete_artifacts import delete_artifacts, main

from rstar.store.folder_store import FolderStore
from rstar.store.store import StoreError

KEPT = ["data/train.jsonl", "models/base/config.json", "rounds/r10/select/0/manifest.json", "rounds/r2/x"]
ROUND = ["rounds/r1/rollout/0/trees/0.parquet", "rounds/r1/rollout/0/manifest.json", "rounds/r1/select/0/manifest.json"]


def store(folder: Path) -> FolderStore:
    made = FolderStore(folder)
    for key in (*KEPT, *ROUND):
        made.write(key, b"x")
    return made


def test_all_objects_of_the_round_are_deleted_and_no_others_also_when_repeated(tmp_path: Path) -> None:
    made = store(tmp_path)
    for _ in range(2):
        assert main(["--store", str(tmp_path), "--round", "r1"]) == 0
        assert list(made.list("")) == sorted(KEPT)


@pytest.mark.parametrize("name", ["", ".", "..", "r1/..", "*", "R1", "r1/rollout", "-r1", "r1-", "r" * 64, "r1\n"])
def test_an_impossible_name_is_bad_input_and_nothing_is_deleted(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = store(tmp_path)
    assert main(["--store", str(tmp_path), f"--round={name}"]) == 2
    assert list(made.list("")) == sorted([*KEPT, *ROUND])
    assert "is no round's name" in capsys.readouterr().err


def test_an_unknown_kind_of_store_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", "ftp://x", "--round", "r1"]) == 2
    assert capsys.readouterr().err == (
        "error: 'ftp://x' is no store: use a folder, file:///PATH or s3://BUCKET/PREFIX\n"
    )


class Failing(FolderStore):
    """A store whose server fails at the deletion of one key."""

    def __init__(self, folder: Path, at: str) -> None:
        super().__init__(folder)
        self._at = at

    def delete(self, key: str) -> None:
        if key == self._at:
            raise StoreError("the server does not answer")
        super().delete(key)


def test_an_interrupted_deletion_leaves_no_manifest_and_can_be_repeated(tmp_path: Path) -> None:
    made = store(tmp_path)
    with pytest.raises(StoreError):
        delete_artifacts(Failing(tmp_path, ROUND[0]), "r1")
    assert list(made.list("rounds/r1/")) == [ROUND[0]]
    assert delete_artifacts(made, "r1") == 1
    assert list(made.list("")) == sorted(KEPT)

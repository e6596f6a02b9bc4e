"""Reading stores: finished, damaged, and while they are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rstar.cli.errors import BAD_INPUT, CommandError
from rstar.cli.main import app
from rstar.report.collect import collect
from rstar.report.data import ROLLOUT, Report, RoundFigures
from rstar.report.lineage import ancestors
from rstar.rounds.observed import Stage
from rstar.store.folder_store import FolderStore
from tests.support.rounds.stored_rounds import StoredRounds, two_rounds


@pytest.fixture
def rounds(tmp_path: Path) -> StoredRounds:
    return two_rounds(tmp_path / "store")


def read(rounds: StoredRounds) -> Report:
    return collect(rounds.store, {})


def of(report: Report, name: str) -> RoundFigures:
    return next(one for one in report.rounds if one.name == name)


def test_a_report_has_the_figures_of_every_round(rounds: StoredRounds) -> None:
    report = read(rounds)
    assert [(one.name, one.previous) for one in report.rounds] == [("r1", ""), ("r2", "r1")]
    assert not report.faults
    assert not report.missing
    last = of(report, "r2")
    assert {m.summary.name: m.summary.accuracy for m in last.methods} == {"greedy": 0.5, "mcts+ppm": 4 / 6}
    assert last.methods[1].summary.paired is not None
    assert last.difficulty is not None
    assert last.difficulty.coverage["hard"].right == 2
    assert last.ppm is not None
    assert (last.ppm.accuracy, last.ppm.low, last.ppm.gap) == (0.8, 0.6, 0.25)
    # Both methods gave 6 answers that this round's PPM scored.
    assert sum(one.count for one in last.ppm.calibration) == 12
    assert {trees.source: trees.problems for trees in last.trees} == {ROLLOUT: 6, "greedy": 6, "mcts+ppm": 6}
    assert report.problems == {"training": 6, "held_out": 6}
    assert {(s.source, s.right) for s in report.samples if s.round == "r2"} == {
        (source, right) for source in (ROLLOUT, "greedy", "mcts+ppm") for right in (True, False)
    }


def test_the_lineage_of_a_policy_ends_at_the_first_search(rounds: StoredRounds) -> None:
    artefacts = read(rounds).lineage
    policy = next(one for one in artefacts if (one.round, one.stage) == ("r2", "train-policy"))
    above = [one for key in ancestors(policy.manifest, artefacts) for one in artefacts if one.manifest == key]
    assert [(one.round, one.stage) for one in above] == [
        (name, stage) for name in ("r2", "r1") for stage in ("train-policy", "select", "rollout")
    ]
    assert above[-1].sources["base_model"] == "b" * 64


def test_a_changed_shard_is_named_and_left_out(rounds: StoredRounds) -> None:
    key = rounds.key("r2", Stage.ROLLOUT, "trees/00001.parquet")
    rounds.store.write(key, rounds.store.read(rounds.key("r1", Stage.ROLLOUT, "trees/00000.parquet")))
    report = read(rounds)
    [fault] = report.faults
    assert fault.key == key
    assert "differs from its manifest" in fault.reason
    assert next(t for t in of(report, "r2").trees if t.source == ROLLOUT).problems == 3


def test_a_missing_file_and_a_manifest_of_another_version_are_named(rounds: StoredRounds) -> None:
    shard = rounds.key("r1", Stage.EVALUATE, "trees/greedy/00000.parquet")
    manifest = rounds.key("r2", Stage.TRAIN_PPM, "manifest.json")
    rounds.store.delete(shard)
    rounds.store.write(manifest, b'{"stage": 1}')
    faults = {fault.key: fault.reason for fault in read(rounds).faults}
    assert faults[shard] == "it is not in the store"
    assert "is not a manifest of this version" in faults[manifest]


def test_a_shard_that_is_no_parquet_is_named_also_before_there_is_a_manifest(rounds: StoredRounds) -> None:
    rounds.store.write("rounds/r3/rollout/0011223344556677/trees/00000.parquet", b"PAR1 torn")
    report = read(rounds)
    assert [fault.key for fault in report.faults] == ["rounds/r3/rollout/0011223344556677/trees/00000.parquet"]
    assert of(report, "r3").stages[0].state == "unfinished"


def test_a_results_table_with_other_columns_is_named(rounds: StoredRounds) -> None:
    key = "rounds/r3/evaluate/0011223344556677/results.parquet"
    rounds.store.write(key, rounds.store.read(rounds.key("r1", Stage.SELECT, "difficulty/00000.parquet")))
    [fault] = read(rounds).faults
    assert fault.key == key


def test_of_unfinished_folders_the_one_that_was_worked_on_last_is_shown(rounds: StoredRounds) -> None:
    for folder, updated, seconds in (("9", "2026-01-01T00:00:00", 5.0), ("0", "2026-01-02T00:00:00", 70.0)):
        times = {"updated": updated, "attempts": 2, "seconds": seconds}
        rounds.store.write(f"rounds/r3/rollout/{folder * 16}/run.json", json.dumps(times).encode())
    rollout = of(read(rounds), "r3").stages[0]
    assert (rollout.state, rollout.other_folders, rollout.seconds) == ("unfinished", 1, 70.0)


def test_an_evaluation_that_is_half_done_shows_what_there_is(rounds: StoredRounds) -> None:
    rounds.round("r3", 5, until=Stage.TRAIN_PPM)
    shard = rounds.store.read(rounds.key("r2", Stage.EVALUATE, "trees/greedy/00000.parquet"))
    rounds.store.write("rounds/r3/evaluate/0011223344556677/trees/greedy/00000.parquet", shard)
    report = read(rounds)
    one = of(report, "r3")
    assert not one.methods
    assert {trees.source for trees in one.trees} == {ROLLOUT, "greedy"}
    assert report.missing == (
        "Round r3: stage evaluate has no manifest yet (6 problems by greedy stored); its figures are preliminary.",
    )
    assert {s.right for s in report.samples if (s.round, s.source) == ("r3", "greedy")} == {None}


def test_a_first_search_at_work_keeps_trees_before_there_is_a_verdict(tmp_path: Path) -> None:
    rounds = StoredRounds(tmp_path)
    rounds.round("r1", 2, until=Stage.ROLLOUT)
    rounds.store.delete(rounds.key("r1", Stage.ROLLOUT, "manifest.json"))
    kept: list[str] = []
    report = collect(rounds.store, {}, 4, lambda key, rank, problem, record, result: kept.append(problem.id))
    assert len(kept) == 4
    assert len(report.samples) == 4


def test_of_two_folders_of_a_stage_the_one_that_later_stages_read_counts(rounds: StoredRounds) -> None:
    before = of(read(rounds), "r1").stages[0].manifest
    rounds.stage("r1", Stage.ROLLOUT, {}, {"problems": "f" * 64}, {}, {})
    report = read(rounds)
    assert of(report, "r1").stages[0].manifest == before
    assert "rollout has 1 more folder" in report.missing[0]


def test_json_is_the_collected_data(rounds: StoredRounds) -> None:
    result = CliRunner().invoke(app, ["report", "--store", str(rounds.store.folder), "--json"])
    found = json.loads(result.stdout)
    assert [one["name"] for one in found["rounds"]] == ["r1", "r2"]
    assert found["lineage"][0]["stage"] == "rollout"


def test_a_page_is_not_named_for_json(tmp_path: Path) -> None:
    page = tmp_path / "lab.json"
    result = CliRunner().invoke(app, ["report", "--store", str(tmp_path), "--json", "--output", str(page)])
    assert isinstance(result.exception, CommandError)
    assert f"use '--json > {page}'" in str(result.exception)
    assert not page.exists()


def test_a_store_without_rounds_is_bad_input(tmp_path: Path) -> None:
    FolderStore(tmp_path).write("data/train.jsonl", b"{}")
    result = CliRunner().invoke(app, ["report", "--store", str(tmp_path), "--json"])
    assert isinstance(result.exception, CommandError)
    assert result.exception.code == BAD_INPUT
    assert "there is no round in" in str(result.exception)


def test_without_its_libraries_the_command_names_the_extra(
    rounds: StoredRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rstar.cli.report_command._LIBRARIES", ("no_such_library",))
    result = CliRunner().invoke(app, ["report", "--store", str(rounds.store.folder)])
    assert isinstance(result.exception, CommandError)
    assert "pip install 'rstar-math[report]'" in str(result.exception)


def test_the_command_writes_the_page_and_names_damaged_files(rounds: StoredRounds, tmp_path: Path) -> None:
    rounds.store.write("rounds/r3/rollout/0011223344556677/trees/00000.parquet", b"PAR1 torn")
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", "--store", str(rounds.store.folder), "-o", str(page)])
    assert result.exception is None
    assert "3 rounds, 36 trees" in result.stdout
    assert "left out rounds/r3/rollout/0011223344556677/trees/00000.parquet" in result.stderr
    assert page.read_text().startswith("<!doctype html>")


def test_the_page_names_a_store_below_the_working_directory_without_the_path_to_it(
    rounds: StoredRounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    above = tmp_path / "my folder"
    above.mkdir()
    shutil.copytree(rounds.store.folder, above / rounds.store.folder.name)
    monkeypatch.chdir(above)
    result = CliRunner().invoke(app, ["report", "--store", rounds.store.folder.name, "-o", str(page)])
    assert result.exception is None
    assert f"<title>rStar report: {rounds.store.folder.name}</title>" in page.read_text()
    assert str(rounds.store.folder) not in page.read_text()
    assert "my folder" not in page.read_text()
    assert "my%20folder" not in page.read_text()


def test_an_output_in_no_folder_is_bad_input(rounds: StoredRounds, tmp_path: Path) -> None:
    command = ["report", "--store", str(rounds.store.folder), "--output", str(tmp_path / "none" / "page.html")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, CommandError)
    assert "give the path of a file in a folder that exists" in str(result.exception)

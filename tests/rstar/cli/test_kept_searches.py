"""The folder of finished searches: ``rstar evaluate --keep``."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar.cli.kept_searches import KeptSearches
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord

IDENTITY = {"seed": 1}


def searched(problem: Problem, error: str = "") -> SearchRecord:
    return SearchRecord(problem.id, (NodeRecord(-1),), error=error)


def test_a_stored_search_is_found_again_by_its_problem_and_settings(tmp_path: Path) -> None:
    problem, failed = Problem("p0", "1 + 1 = ?"), Problem("p1", "2 + 2 = ?")
    kept = KeptSearches(tmp_path, IDENTITY)
    kept.add(problem, searched(problem))
    kept.add(failed, searched(failed, "no policy"))
    kept.store()
    kept.store()
    again = KeptSearches(tmp_path, IDENTITY)
    assert again.get(problem) == searched(problem)
    assert again.get(failed) is None
    assert again.get(Problem("p0", "another question")) is None
    assert KeptSearches(tmp_path, {"seed": 2}).get(problem) is None
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_damaged_table_is_named_and_its_problems_are_searched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Problem("p0", "1 + 1 = ?")
    kept = KeptSearches(tmp_path, IDENTITY)
    kept.add(problem, searched(problem))
    kept.store()
    [table] = tmp_path.rglob("*.parquet")
    table.write_bytes(b"PAR1 torn")
    assert KeptSearches(tmp_path, IDENTITY).get(problem) is None
    assert f"{table} is left out" in capsys.readouterr().err


def test_searches_that_cannot_be_stored_are_stored_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("p0", "1 + 1 = ?")
    folder = tmp_path / "kept"
    kept = KeptSearches(folder, IDENTITY)
    folder.write_text("a file where the folder should be")
    kept.add(problem, searched(problem))
    kept.store()
    assert "searches are not kept yet" in capsys.readouterr().err
    folder.unlink()
    kept.store()
    assert KeptSearches(folder, IDENTITY).get(problem) == searched(problem)

"""``rstar verify`` as a real process: verdicts with reasons, figures by kind, one sentence per bad row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import assert_refused, rstar

ROWS: list[dict[str, Any]] = [
    {"reference": "1/2", "answer": "0.5", "kind": "fraction", "correct": True},
    {"reference": "5", "answer": "2x+3=5", "kind": "equation", "correct": False},
    {"reference": 0.10, "answer": 1, "kind": "equation"},
    {"reference": "no", "answer": "on", "kind": "text", "correct": True},
    {"reference": "red", "answer": "Red", "correct": False},
]


def written(folder: Path, *rows: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_verdicts_have_reasons_and_the_table_counts_errors_by_kind(tmp_path: Path) -> None:
    finished = rstar("verify", str(written(tmp_path, *ROWS)))
    assert finished.code == 0, finished.err
    lines = finished.out.splitlines()
    assert lines[:5] == [
        "1 correct fraction: equal as numbers: 0.5 and 1/2",
        "2 wrong equation: an equation, where the reference is a number: 2x+3=5 and 5",
        "3 wrong equation: different numbers: 1 and 0.1",
        "4 wrong text: different words: on and no (labelled correct)",
        "5 correct -: the same words: Red and red (labelled wrong)",
    ]
    cells = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in lines if "│" in line]
    assert cells == [
        ["fraction", "1", "1", "1", "100.0%", "0", "0"],
        ["equation", "2", "0", "1", "100.0%", "0", "0"],
        ["text", "1", "0", "1", "0.0%", "0", "1"],
        ["-", "1", "1", "1", "0.0%", "1", "0"],
        ["all", "5", "2", "4", "50.0%", "1", "1"],
    ]


def test_json_is_one_object_per_row_with_four_keys_and_nothing_else(tmp_path: Path) -> None:
    finished = rstar("verify", str(written(tmp_path, *ROWS)), "--json")
    assert finished.code == 0
    rows = [json.loads(line) for line in finished.out.splitlines()]
    assert all(list(row) == ["reference", "answer", "correct", "reason"] for row in rows)
    assert [row["correct"] for row in rows] == [True, False, False, False, True]
    assert [row["reference"] for row in rows] == ["1/2", "5", "0.1", "no", "red"]


def test_any_verifier_grades_and_gets_the_data_of_the_row(tmp_path: Path) -> None:
    path = written(tmp_path, {"reference": None, "answer": "(8 - 2) * 4", "data": {"nums": [8, 2, 4], "target": 24}})
    finished = rstar("verify", str(path), "--verifier", "countdown")
    assert finished.code == 0
    assert finished.out.startswith("1 correct -: reaches 24 with every number used once")
    exact = rstar("verify", str(written(tmp_path, ROWS[0])), "--verifier", "exact", "--json")
    assert json.loads(exact.out)["correct"] is False


def test_rows_without_labels_have_no_accuracy(tmp_path: Path) -> None:
    finished = rstar("verify", str(written(tmp_path, {"reference": "1", "answer": "1"}, "", ROWS[2])))
    assert finished.out.splitlines()[1].startswith("3 wrong")
    assert "%" not in finished.out


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("no json", "line 2: not JSON (Expecting value at column 1): write one JSON object per line"),
        ("[" * 100_000, "line 2: not JSON (nested too deeply)"),
        ([1], "line 2: not a JSON object"),
        ({"reference": "1"}, "line 2: no 'answer' (the row has reference): add it"),
        ({"answer": "1"}, "line 2: no 'reference' (the row has answer): add it"),
        ({"reference": "1", "answer": None}, "line 2: 'answer' is null: write a text"),
        ({"reference": ["1"], "answer": "1"}, "line 2: 'reference' is neither a text nor a number"),
        ({"reference": "1", "answer": "1", "correct": "yes"}, "line 2: 'correct' is neither true nor false"),
        ({"reference": "1", "answer": "1", "data": 3}, "line 2: 'data' is no JSON object"),
    ],
)
def test_a_bad_row_is_one_sentence_with_its_line(tmp_path: Path, row: object, fault: str) -> None:
    path = written(tmp_path, ROWS[0], row)
    finished = rstar("verify", str(path))
    assert_refused(finished, f"rstar: {path}: {fault}")
    assert len(finished.err.splitlines()) == 1


def test_a_file_that_cannot_be_read_and_an_unknown_verifier_are_errors(tmp_path: Path) -> None:
    assert_refused(rstar("verify", str(tmp_path / "none.jsonl")), "none.jsonl: No such file or directory")
    assert_refused(rstar("verify", str(tmp_path)), "Is a directory")
    assert_refused(rstar("verify", str(written(tmp_path))), "has no rows")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    assert_refused(rstar("verify", str(tmp_path / "latin.jsonl")), "the file is not UTF-8")
    many = written(tmp_path, *["x"] * 8)
    assert_refused(rstar("verify", str(many)), "line 5: not JSON", "3 more rows are bad")
    assert_refused(rstar("verify", str(written(tmp_path, ROWS[0])), "--verifier", "exat"), "did you mean 'exact'")

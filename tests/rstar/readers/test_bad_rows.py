"""Bad rows are errors: each is one sentence with its file and line."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstar.readers import read_problems

GOOD = '{"question": "a", "answer": "1"}'
OTHER = GOOD.replace('"a"', '"b"')


def message(lines: list[str], format: str = "jsonl") -> str:
    with pytest.raises(ValueError, match=r"line \d|lines:") as caught:
        read_problems(lines, format)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "format", "what"),
    [
        ('{"question": "a"', "jsonl", "not JSON"),
        ("[1, 2]", "jsonl", "not a JSON object"),
        ("[" * 100_000, "jsonl", "not usable JSON"),
        ('{"text": "a", "answer": "1"}', "jsonl", "no 'question' or 'problem' (the row has 'text', 'answer')"),
        ('{"question": "a"}', "jsonl", '"answer": null'),
        ('{"question": " ", "answer": "1"}', "jsonl", "'question' is empty"),
        ('{"question": 3, "answer": "1"}', "jsonl", "'question' is 3: make it a string"),
        ('{"question": "a", "answer": {"value": 1}}', "jsonl", "'answer' is an object"),
        ('{"question": "a", "answer": ["1", null, {}]}', "jsonl", "'answer' is an object"),
        ('{"question": "a", "answer": NaN}', "jsonl", "give a finite number"),
        ('{"question": "a", "answer": 1e999}', "jsonl", "give a finite number"),
        ('{"question": null, "answer": "1"}', "jsonl", "'question' is null"),
        ('{"question": "a", "solution": "It is 5."}', "jsonl", "'solution' has no \\boxed{}"),
        ('{"question": "a", "answer": true}', "jsonl", "'answer' is a boolean"),
        ('{"question": "a", "answer": "1", "data": []}', "jsonl", "'data' is a list"),
        ('{"question": "a", "answer": "1", "synthetic": "no"}', "jsonl", "'synthetic' is a string"),
        ('{"question": "a", "answer": "1", "id": ""}', "jsonl", "'id' is ''"),
        ('{"question": "a", "answer": "1", "id": {}}', "jsonl", "'id' is {}"),
        ('{"question": "\\ud83d", "answer": "1"}', "jsonl", "half a character"),
        ('{"question": "a", "answer": "eighteen"}', "gsm8k", "#### NUMBER"),
        ('{"question": "a", "answer": "so #### "}', "gsm8k", "#### NUMBER"),
        ('{"problem": "a", "solution": "5"}', "math", "no \\boxed{}"),
        ('{"problem": "a"}', "math", "no 'solution'"),
        ('{"nums": [1, 2]}', "countdown", "no 'target'"),
        ('{"nums": [1, true], "target": 24}', "countdown", "'nums' is no list"),
        ('{"nums": [], "target": 24}', "countdown", "'nums' is no list"),
        ('{"nums": [-1], "target": 24}', "countdown", "'nums' is no list"),
        ('{"nums": [1], "target": 2.5}', "countdown", "'target' is no integer"),
        ("Rank,Numbers", "countdown", "not JSON"),
        ("Rank,Puzzles\n1,1 1 4 6,7", "countdown", "3 cells below a header of 2"),
        ("Rank,Puzzles\n1,1 x", "countdown", "no whole numbers"),
    ],
)
def test_a_bad_row_is_named_with_its_line_what_is_wrong_and_how_to_mend_it(line: str, format: str, what: str) -> None:
    lines = ["", *line.splitlines()]
    error = message(lines, format)
    assert error.startswith(f"line {len(lines)}: ")
    assert what in error
    assert "\n" not in error


def test_a_file_is_named_and_broken_utf8_is_an_error_and_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(GOOD.encode() + b'\n{"question": "caf\xe9", "answer": "1"}\n')
    with pytest.raises(ValueError, match="UTF-8") as caught:
        read_problems(file, "jsonl")
    assert str(caught.value) == f"{file}:2: not UTF-8 (byte 18 of the line): save the file as UTF-8"


def test_the_first_five_bad_rows_are_listed() -> None:
    assert len(message([GOOD, "x", GOOD, "y"]).splitlines()) == 2
    many = message(["x"] * 9).splitlines()
    assert [line.partition(":")[0] for line in many[:5]] == [f"line {i}" for i in range(1, 6)]
    assert many[5:] == ["(only the first 5 bad rows are named)"]


def test_an_id_used_twice_is_an_error_with_both_lines() -> None:
    rows = [json.dumps({"id": "p1", "question": q, "answer": "1"}) for q in "ab"]
    assert message(rows) == "line 2: id 'p1' is taken by line 1; rename or remove one of the rows"


def test_rows_without_id_and_with_the_same_content_are_one_problem_and_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read_problems([GOOD, GOOD, OTHER, GOOD], "jsonl")) == 2
    assert "dropped 2 rows" in caplog.text


def test_a_missing_an_unreadable_and_an_empty_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read"):
        read_problems(tmp_path / "none.jsonl", "jsonl")
    with pytest.raises(ValueError, match="cannot be read"):
        read_problems(tmp_path, "jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="there is no problem in it"):
        read_problems(tmp_path / "empty.jsonl", "jsonl")


HUB = """
import sys
from rstar.readers import read_hub
try:
    print(len(read_hub(sys.argv[1], "train", "jsonl")))
except ValueError as error:
    print("refused:", error)
"""


def hub(name: str, home: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", HUB, name], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_data_set_is_read_through_the_library_and_is_an_error_of_one_sentence_when_offline(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text(f"{GOOD}\n{OTHER}\n")
    assert hub(str(folder), tmp_path / "home") == "2"
    refused = hub("nobody/nothing", tmp_path / "home")
    assert refused.startswith(
        "refused: the data set hf:nobody/nothing@main is not (completely) in the hub's local cache"
    )
    assert len(refused.splitlines()) == 1

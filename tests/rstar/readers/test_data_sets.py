"""Several data sets are one list with unique ids; bad rows are left out and counted where that is asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from rstar.readers import data_set_names, merged, read_file, read_problems


def rows(*ids: object, text: str = "q") -> list[str]:
    return [json.dumps({"id": i, "question": f"{text}{i}?", "answer": "1"}) for i in ids]


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        (["data/train.jsonl"], ["train"]),
        (["a/train.jsonl.gz", "hf:openai/gsm8k"], ["train", "gsm8k"]),
        (["data/aime24/test.jsonl", "data/amc23/test.jsonl"], ["aime24/test", "amc23/test"]),
        (["store:x/a.json", "store:y/a.json", "b.json"], ["x/a", "y/a", "b"]),
        (["hf:openai/gsm8k/main", "hf:openai/gsm8k/socratic"], ["main", "socratic"]),
    ],
)
def test_a_data_set_is_named_by_the_shortest_end_of_its_path(uris: list[str], names: list[str]) -> None:
    assert data_set_names(uris, ["train"] * len(uris)) == names


def test_splits_of_one_data_set_are_named_apart_and_the_same_one_twice_is_an_error() -> None:
    assert data_set_names(["hf:a/b", "hf:a/b"], ["train", "test"]) == ["a/b:train", "a/b:test"]
    with pytest.raises(ValueError, match="the data set a:train is given 2 times"):
        data_set_names(["a.jsonl", "a.jsonl"], ["train", "train"])


def test_a_single_data_set_keeps_its_ids() -> None:
    reading = read_file(rows(1, "b"), "jsonl")
    assert merged(["x"], [reading]) == reading
    assert [p.id for p in merged(["x"], [reading], limit=1).problems] == ["1"]


def test_own_ids_get_the_name_of_their_set_and_equal_content_is_one_problem(caplog: pytest.LogCaptureFixture) -> None:
    same = json.dumps({"question": "1 + 1?", "answer": "2"})
    first, second = read_file([*rows(0, 1), same], "jsonl"), read_file([same, *rows(0, text="r")], "jsonl")
    with caplog.at_level(logging.WARNING):
        both = merged(["aime24", "amc23"], [first, second])
    by_content = read_problems([same])[0].id
    assert [p.id for p in both.problems] == ["aime24/0", "aime24/1", by_content, "amc23/0"]
    assert both.problems[3].question == "r0?"
    assert "dropped 1 problems that another of the data sets has too" in caplog.text
    assert len(merged(["a", "b"], [first, second], limit=2).problems) == 2


def test_bad_rows_are_left_out_and_counted_where_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    lines = [*rows(1), "nonsense", *rows(2), '{"question": "a"}', *rows(1)]
    with pytest.raises(ValueError, match="line 2: not JSON"):
        read_file(lines, "jsonl")
    with caplog.at_level(logging.WARNING):
        reading = read_file(lines, "jsonl", on_bad_row="skip")
    assert [p.id for p in reading.problems] == ["1", "2"]
    assert reading.bad_rows == 3
    assert "left out 3 bad rows, such as line 2: not JSON" in caplog.text
    assert "line 5: id '1' is taken by line 1" in caplog.text


def test_more_than_five_bad_rows_are_left_out_too() -> None:
    assert read_file([*["x"] * 20, *rows(1)], "jsonl", on_bad_row="skip").bad_rows == 20


def test_a_data_set_of_bad_rows_alone_and_a_broken_file_are_errors_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no problem in it"):
        read_file(["x"], "jsonl", on_bad_row="skip")
    (tmp_path / "p.json").write_text('[{"question": "a", "answer": "1"}, {]')
    with pytest.raises(ValueError, match="row 2: not JSON"):
        read_file(tmp_path / "p.json", "jsonl", on_bad_row="skip")

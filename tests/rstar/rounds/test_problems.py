"""``problems`` takes one data set or a list; both are the same problems in every command and stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from rstar.readers import read_problems
from rstar.rounds.load import SpecError, load_rounds
from rstar.rounds.problems import read_problems_of
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.store.folder_store import FolderStore


def write(path: Path, *rows: dict[str, Any] | str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def problem(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "question": f"{number}?", "answer": "1", **more}


def ids(given: Any, cache: Path, store: FolderStore | None = None) -> list[str]:
    return [item.id for item in read_problems_of(ProblemsSpec.model_validate(given), store, cache).problems]


def test_one_data_set_and_a_list_of_one_are_the_same_problems(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.jsonl", problem(1), {"question": "x", "answer": "2"})
    expected = read_problems(uri)
    for given in ({"uri": uri}, [{"uri": uri}], {"sets": [{"uri": uri}]}):
        assert read_problems_of(ProblemsSpec.model_validate(given), None, tmp_path).problems == expected


def test_a_key_of_a_data_set_comes_before_that_of_all(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", problem(1), "nonsense", problem(2), problem(3))
    b = write(tmp_path / "b.jsonl", {"question": "x", "answer": "#### 5"}, {"question": "y", "answer": "6"})
    sets = [{"uri": a, "onBadRow": "skip", "limit": 2}, {"uri": b, "format": "jsonl", "name": "mine"}]
    reading = read_problems_of(ProblemsSpec.model_validate({"sets": sets, "format": "math"}), None, tmp_path)
    assert [item.id for item in reading.problems[:2]] == ["a/1", "a/2"]
    assert [item.answer for item in reading.problems] == ["1", "1", "5", "6"]
    assert reading.bad_rows == 1
    assert len(ids({"sets": sets, "limit": 3}, tmp_path)) == 3
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not JSON"):
        ids([{"uri": a}, {"uri": b}], tmp_path)


def test_sets_of_the_store_and_of_this_machine_are_read_together(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write("data/x.jsonl", json.dumps(problem(1)).encode())
    local = write(tmp_path / "y.jsonl", problem(1))
    assert ids([{"uri": "store:data/x.jsonl"}, {"uri": local}], tmp_path, store) == ["x/1", "y/1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either uri or sets"),
        ([], "give either uri or sets"),
        ({"uri": "a", "sets": [{"uri": "b"}]}, "give either uri or sets"),
        ([{"uri": "a"}, {"uri": "a"}], "the data set a:train is given 2 times"),
        ([{"uri": "a", "name": "b"}, {"uri": "b"}], "2 data sets have the name b"),
        ([{"uri": "a", "rows": 3}], "Extra inputs"),
        ([{"uri": "a"}] * 33, "at most 32"),
    ],
)
def test_problems_that_name_no_data_sets_or_ambiguous_ones_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ProblemsSpec.model_validate(given)


def rounds_file(folder: Path, problems: Any) -> Path:
    write(folder / "base" / "config.json", "{}")
    spec = {"round": 1, "baseModel": str(folder / "base"), "problems": problems}
    document = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound", "metadata": {"name": "r1"}, "spec": spec}
    file = folder / "rounds.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_list_in_a_file_of_rounds_is_read_and_every_set_is_checked(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", problem(1))
    (item,) = load_rounds(rounds_file(tmp_path, [{"uri": good}, {"uri": "hf:a/b", "split": "test"}]))
    assert [source.name for source in item.spec.problems.sources()] == ["good", "b"]
    bad = write(tmp_path / "bad.jsonl", problem(1), "nonsense")
    with pytest.raises(SpecError) as caught:
        load_rounds(rounds_file(tmp_path, [{"uri": good}, {"uri": bad}, {"uri": "none.jsonl"}]))
    assert [
        fault.partition("spec.problems: ")[2].partition("; ")[0].rpartition("/")[2] for fault in caught.value.faults
    ]
    assert "bad.jsonl:2: not JSON" in caught.value.faults[0]
    assert "none.jsonl: no such file" in caught.value.faults[1]
    assert load_rounds(rounds_file(tmp_path, {"sets": [{"uri": good}, {"uri": bad}], "onBadRow": "skip"}))


def test_a_fault_of_a_list_names_the_entry(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"spec\.problems\.sets\[1\]\.limit: must be an integer, not '3'"):
        load_rounds(rounds_file(tmp_path, [{"uri": "a"}, {"uri": "b", "limit": "3"}]))

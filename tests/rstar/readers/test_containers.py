"""The same rows are read from every container, told by its content; faults name the file, the row and the remedy."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rstar.readers import containers, read_problems
from rstar.readers.containers import file_rows

ROWS: list[dict[str, Any]] = [
    {"question": 'How many, "exactly"?\nSay it.', "answer": "1"},
    {"question": "Größe 漢 🙂, or not?", "answer": "x = 2"},
    {"question": "{[<Puzzles>]}", "answer": "-3"},
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: list[dict[str, Any]], separator: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["question", "answer"], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=2)
    return buffer.getvalue()


def xml(rows: list[dict[str, Any]]) -> bytes:
    from xml.sax.saxutils import escape

    problems = "".join(
        f"<Problem><Question>{escape(row['question'])}</Question><Answer>{escape(row['answer'])}</Answer></Problem>"
        for row in rows
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Corpus><ProblemSet>{problems}</ProblemSet></Corpus>'.encode()


PACKED: dict[str, bytes] = {
    "p.jsonl": lines(ROWS),
    "lines.json": lines(ROWS),
    "p.txt": lines(ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + lines(ROWS),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "wrapped.json": json.dumps({"version": 1, "example": ROWS}).encode(),
    "wrapped-pretty.json": json.dumps({"example": ROWS}, indent=1).encode(),
    "p.csv": table(ROWS),
    "bom.csv": b"\xef\xbb\xbf" + table(ROWS),
    "p.tsv": table(ROWS, "\t"),
    "table-without-suffix": table(ROWS),
    "p.parquet": parquet(ROWS),
    "parquet-without-suffix": parquet(ROWS),
    "p.xml": xml(ROWS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_the_same_rows_are_read_from_every_container(tmp_path: Path, name: str, packed: bool) -> None:
    file = tmp_path / (f"{name}.gz" if packed else name)
    file.write_bytes(gzip.compress(PACKED[name], mtime=0) if packed else PACKED[name])
    expected = read_problems([json.dumps(row) for row in ROWS])
    assert read_problems(file) == expected
    assert [problem.question for problem in read_problems(file, limit=2)] == [row["question"] for row in ROWS[:2]]


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(gzip.compress(lines(ROWS), mtime=0))
    assert len(read_problems(tmp_path / "p.jsonl")) == 3


def test_one_row_alone_is_a_row(tmp_path: Path) -> None:
    for indent in (None, 2):
        (tmp_path / "p.json").write_text(json.dumps({**ROWS[0], "steps": [{"a": 1}]}, indent=indent))
        assert [problem.question for problem in read_problems(tmp_path / "p.json")] == [ROWS[0]["question"]]


def test_a_folder_stands_for_all_its_json_files(tmp_path: Path) -> None:
    for i, kind in enumerate(("algebra", "geometry")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.json").write_text(json.dumps(ROWS[i], indent=4))
    assert [problem.question for problem in read_problems(tmp_path)] == [row["question"] for row in ROWS[:2]]


def test_asdiv_is_read_as_published(tmp_path: Path) -> None:
    # github.com/chaochun/nlu-asdiv-dataset, dataset/ASDiv.xml
    (tmp_path / "ASDiv.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8" ?>\n<Machine-Reading-Corpus-File>\n  <ProblemSet>\n'
        '    <Problem ID="nluds-0001" Grade="1" Source="http://www.k5learning.com">\n'
        "      <Body>Seven red apples and two green apples are in the basket.</Body>\n"
        "      <Question>How many apples are in the basket?</Question>\n"
        "      <Solution-Type>Addition</Solution-Type>\n      <Answer>9 (apples)</Answer>\n"
        "      <Formula>7+2=9</Formula>\n    </Problem>\n  </ProblemSet>\n</Machine-Reading-Corpus-File>\n"
    )
    (problem,) = read_problems(tmp_path / "ASDiv.xml")
    assert (problem.id, problem.answer) == ("nluds-0001", "9")
    assert problem.question == (
        "Seven red apples and two green apples are in the basket. How many apples are in the basket?"
    )


@pytest.mark.parametrize(
    ("name", "content", "place", "what"),
    [
        ("p.json", b'[{"question": "a", "answer": "1"}, 5]', " row 2", "not a JSON object"),
        ("p.json", b'[{"question": "a", "answer": "1"}, {"question"]', " row 2", "not JSON"),
        ("p.json", b'[{"question": "a", "answer": "1"},', " row 2", "the list has no end"),
        ("p.json", b"[" * 100_000, " row 1", "not usable JSON"),
        ("p.json", b'["caf\xe9"]', "", "not UTF-8"),
        ("p.csv", b"question,answer\na,1\n\nb,2,3\n", ":4", "3 cells below a header of 2"),
        ("p.csv", "question,answer\ncafé,1\n".encode("latin-1"), "", "not UTF-8"),
        ("p.csv", b"question,answer\na,1\n,2\n", ":3", "no 'question'"),
        ("p.parquet", b"PAR1 and no more", "", "not a readable Parquet file"),
        ("p.xml", b"<a><b></a>", "", "not XML"),
        ("p.jsonl.gz", gzip.compress(lines(ROWS), mtime=0)[:40], "", "is damaged"),
        ("p.zip", b"PK\x03\x04....", "", "is a ZIP archive: unpack it"),
        ("p.jsonl", "a".encode("utf-16"), "", "is text in UTF-16"),
        ("p.json", b"{}", "", "no 'question'"),
    ],
)
def test_a_fault_names_the_file_and_the_row(tmp_path: Path, name: str, content: bytes, place: str, what: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^/") as caught:
        read_problems(file)
    assert str(caught.value).startswith(f"{file}{place}: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_with_a_line_break_is_one_row_that_begins_on_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('question,answer\n"a\nb",1\n,2\n')
    with pytest.raises(ValueError, match=r"p\.csv:4: no 'question'"):
        read_problems(tmp_path / "p.csv")


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.csv", "big.parquet", "big.xml"])
def test_a_big_file_is_read_as_far_as_its_rows_are_asked_for(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "CHUNK", 1_000)
    made: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
        "jsonl": lines, "json": lambda rows: json.dumps(rows).encode(), "csv": table, "parquet": parquet, "xml": xml
    }  # fmt: skip
    rows = [{"question": f"q{i}" * 20, "answer": str(i)} for i in range(2_000)]
    file = tmp_path / name
    content = made[name.partition(".")[2]](rows)
    # The second half is broken, so reading it would be an error.
    file.write_bytes(content if name.endswith("parquet") else content[: len(content) // 2] + b"\xff\xff\xff")
    found = read_problems(file, limit=50)
    assert [problem.answer for problem in found] == [str(i) for i in range(50)]


def test_an_entry_longer_than_a_chunk_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CHUNK", 7)
    rows = [{"question": "q" * 500, "answer": '"]},{['}, ROWS[1]]
    (tmp_path / "p.json").write_text(json.dumps(rows, indent=1))
    assert [row for _, row in file_rows(tmp_path / "p.json")] == rows

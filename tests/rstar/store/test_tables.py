"""Tables are read back without loss, have equal bytes for equal rows, and other tables are errors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.store.tables import count_rows, read_pairs, read_sft, read_trees, write_pairs, write_sft, write_trees

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 2**31 - 1)
NUMBER = st.floats(allow_nan=False)
NODES = st.lists(
    st.builds(
        NodeRecord,
        parent=st.integers(-1, 100),
        tree=COUNT,
        text=TEXT,
        tokens=COUNT,
        logprob=NUMBER,
        visits=COUNT,
        value=NUMBER,
        score=st.none() | NUMBER,
        valid=st.booleans(),
        reason=TEXT,
        terminal=st.booleans(),
        output=TEXT,
        answer=st.none() | TEXT,
        correct=st.none() | st.booleans(),
    ),
    max_size=5,
).map(tuple)
USAGE = st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT)
DATA = st.dictionaries(TEXT, st.none() | st.integers() | TEXT | st.lists(st.integers()), max_size=3)
PROBLEM = st.builds(Problem, TEXT, TEXT, st.none() | TEXT, DATA, st.booleans())


@st.composite
def searched(draw: st.DrawFn) -> tuple[Problem, SearchRecord]:
    problem = draw(PROBLEM)
    chosen = draw(st.integers(-1, 4))
    return problem, SearchRecord(problem.id, draw(NODES), draw(USAGE), chosen, draw(TEXT), draw(TEXT), draw(TEXT))


@settings(max_examples=60, deadline=None)
@given(st.lists(searched(), max_size=4))
def test_trees_are_read_back_without_loss_and_have_equal_bytes(rows: list[tuple[Problem, SearchRecord]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        write_trees(path, rows)
        write_trees(again, rows)
        assert read_trees(path) == rows
        assert path.read_bytes() == again.read_bytes()


def test_examples_and_pairs_are_read_back_without_loss(tmp_path: Path) -> None:
    examples = [SftExample("p", "q", ("a", "b"), 0.5), SftExample("p2", "q2", (), -1.0)]
    write_sft(tmp_path / "sft", examples)
    assert read_sft(tmp_path / "sft") == examples
    right, wrong = Continuation(("b",), 0.5, terminal=False), Continuation(("c", "d"), -1.0, terminal=True)
    groups = [PairGroup(name, "q", ("a",), (right,), (wrong, right), ((0, 0), (0, 1))) for name in ("p", "p2", "p3")]
    write_pairs(tmp_path / "pairs", zip(groups, ("train", "held_out", "train"), strict=True))
    assert read_pairs(tmp_path / "pairs", "train") == [groups[0], groups[2]]
    assert read_pairs(tmp_path / "pairs", "held_out") == [groups[1]]
    assert count_rows(tmp_path / "pairs") == 3
    assert count_rows(tmp_path / "pairs", split="held_out") == 1


def test_another_table_is_an_error(tmp_path: Path) -> None:
    write_sft(tmp_path / "sft", [])
    with pytest.raises(ValueError, match="not the table it should be"):
        read_trees(tmp_path / "sft")


def test_other_programs_read_the_nodes_of_a_tree(tmp_path: Path) -> None:
    problem = Problem("p", "q", "4", {"nums": [2, 2]})
    write_trees(tmp_path / "t", [(problem, SearchRecord("p", (NodeRecord(-1), NodeRecord(0, text="step"))))])
    column = pq.read_table(tmp_path / "t").column("nodes").to_pylist()
    assert [node["text"] for node in column[0]] == ["", "step"]

"""``rstar tree``: real stores, as real processes and in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.manifest import Manifest, describe_file
from rstar.rounds.observed import Stage
from rstar.store.tables import read_trees, write_trees

HOSTILE = "[bold red]\x1b[31m</script>"
PLAIN = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def record(problem: str, right: bool | None) -> SearchRecord:
    nodes = (
        NodeRecord(-1, visits=2, value=0.0),
        NodeRecord(0, text=f"# first {HOSTILE}<end_of_step>", tokens=3, visits=2, score=0.5),
        NodeRecord(
            1, text="# last", tokens=2, visits=1, value=1.0, terminal=True, answer="4", output="4", correct=right
        ),
        NodeRecord(0, text="# low", tokens=2, visits=1, value=-1.0, valid=False, terminal=True, reason="exception: E"),
    )
    return SearchRecord(problem, nodes, Usage(rollouts=2, nodes=3, tokens=7), chosen=2)


def put_stage(
    store: Path, name: str, stage: Stage, trees: dict[str, dict[str, bool | None]], *, done: bool = True
) -> Path:
    """Write a stage's shards, by path and problem, and its manifest where it is ``done``."""
    folder = store / f"rounds/{name}/{stage}/0123456789abcdef"
    for path, problems in trees.items():
        rows = [(Problem(i, f"What is {i}?", "4"), record(i, right)) for i, right in problems.items()]
        write_trees(folder / path, rows)
    if done:
        outputs = tuple(describe_file(folder / path, path) for path in trees)
        manifest = Manifest(stage=stage, round=name, seed=1, spec_digest="0" * 64, outputs=outputs)
        (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    put_stage(
        folder, "r1", Stage.ROLLOUT, {"trees/00000.parquet": {"alpha": True}, "trees/00001.parquet": {"beta": False}}
    )
    put_stage(folder, "r1", Stage.EVALUATE, {"trees/greedy/00000.parquet": {"gamma": None}})
    put_stage(folder, "r2", Stage.ROLLOUT, {"trees/00000.parquet": {"alpha": False}}, done=False)
    return folder


def tree(*arguments: str, code: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-m", "rstar.cli.main", "tree", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=PLAIN, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_show_prints_the_tree_of_the_last_round_with_the_chosen_answer(store: Path) -> None:
    out, err = tree("show", "alpha", "--store", str(store))
    assert "round r2" in out
    assert "wrong answer" in out
    assert "<- chosen" in out
    assert "exception: E" in out
    assert "[bold red]" in out, "a text of the store is no markup"
    assert "\x1b[31m" not in out, "a terminal obeys no text of the store"
    assert err == ""


def test_show_finds_a_problem_by_its_start_and_limits_what_it_prints(store: Path) -> None:
    out, _ = tree("show", "gam", "--store", str(store), "--depth", "1", "--best", "1")
    assert "greedy" in out
    assert "# last" not in out
    assert "1 more" in out


def test_show_prints_one_node_in_full(store: Path) -> None:
    out, _ = tree("show", "beta", "--store", str(store), "--node", "1")
    assert "<end_of_step>" in out
    assert "PPM +0.500" in out
    out, _ = tree("show", "beta", "--store", str(store), "--node", "2", "--json")
    assert json.loads(out)["path"] == [1, 2]


def test_show_prints_json(store: Path) -> None:
    out, _ = tree("show", "alpha", "--store", str(store), "--round", "r1", "--json")
    found = json.loads(out)
    assert (found["problem"], found["right"], len(found["nodes"])) == ("alpha", True, 4)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["alpah"], ["alpah", "the nearest: alpha"]),
        (["alpha", "--round", "r11"], ["--round r11", "the nearest: r1"]),
        (["gamma", "--method", "gredy"], ["--method gredy", "the nearest: greedy"]),
        (["alpha", "--node", "9"], ["--node 9", "0 to 3"]),
    ],
)
def test_a_wrong_name_gets_one_sentence_with_the_nearest_names(
    store: Path, arguments: list[str], parts: list[str]
) -> None:
    out, err = tree("show", *arguments, "--store", str(store), code=2)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(part in err for part in parts)


def test_a_store_without_trees_says_so(tmp_path: Path) -> None:
    tmp_path.joinpath("rounds").mkdir()
    _, err = tree("show", "alpha", "--store", str(tmp_path), code=2)
    assert "no search trees yet" in err


def test_a_damaged_shard_is_named_and_left_out(store: Path, tmp_path: Path) -> None:
    shard = store / "rounds/r1/rollout/0123456789abcdef/trees/00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    out, err = tree("export", "--store", str(store), "--format", "json", "-o", str(tmp_path / "trees.json"))
    assert "left out: rounds/r1/rollout/0123456789abcdef/trees/00001.parquet" in err
    assert "3 trees" in out
    assert [row["problem"] for row in json.loads((tmp_path / "trees.json").read_text())] == ["alpha", "gamma", "alpha"]


def test_parquet_is_a_trees_table_of_the_chosen_problems(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "trees.parquet"
    tree("export", "--store", str(store), "--format", "parquet", "--round", "r1", "--unsolved", "-o", str(file))
    assert [problem.id for problem, _ in read_trees(file)] == ["beta", "gamma"]
    tree("export", "alpha", "--store", str(store), "--format", "parquet", "--solved", "-o", str(file))
    assert read_trees(file) == [(Problem("alpha", "What is alpha?", "4"), record("alpha", True))]


@pytest.mark.parametrize(("form", "start"), [("dot", "digraph"), ("html", "<!doctype html>")])
def test_a_graph_and_a_page_are_written(store: Path, tmp_path: Path, form: str, start: str) -> None:
    file = tmp_path / "out" / f"trees.{form}"
    tree("export", "--store", str(store), "--format", form, "-o", str(file))
    assert file.read_text().startswith(start)


def test_nothing_is_written_for_a_problem_that_is_not_there(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "trees.html"
    _, err = tree("export", "delta", "--store", str(store), "-o", str(file), code=2)
    assert "delta" in err
    assert not file.exists()

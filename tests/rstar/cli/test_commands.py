"""The command line as a user meets it: real processes, exit codes, one sentence per error."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.rpc.servicers import ScriptedExecutor, ScriptedPolicy, ScriptedPreferenceModel, running
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor

RSTAR = (sys.executable, "-m", "rstar.cli.main")
PLAIN = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


def rstar(*arguments: str, cwd: Path | None = None, environment: Mapping[str, str] = PLAIN) -> Ended:
    done = subprocess.run(
        [*RSTAR, *arguments], capture_output=True, text=True, timeout=60, env=environment, cwd=cwd, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


async def rstar_beside_servers(*arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *RSTAR, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=PLAIN
    )
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


def refused(ended: Ended, *words: str) -> None:
    """Exit code 2, one sentence on standard error, no traceback."""
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    for word in words:
        assert word in ended.err


@pytest.fixture
async def toy() -> AsyncIterator[list[str]]:
    """Servers of a toy world in which four digits must add up to 20."""
    policy, executor = ScriptedPolicy(model=DigitPolicy()), ScriptedExecutor(model=SumExecutor())
    async with running(policy, executor, ScriptedPreferenceModel(model=ClosenessModel(20))) as server:
        yield ["--policy", server.address, "--executor", server.address, "--ppm", server.address]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "question": "20?", "answer": "20"}) + "\n" for i in range(3)))
    return path


@pytest.mark.parametrize(
    "command", ["run", "status", "solve", "evaluate", "data make game24", "executor run", "executor doctor"]
)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    ended = rstar(*command.split(), "--help")
    assert ended.code == 0
    assert f"rstar {command}" in " ".join(ended.out.split())
    assert "xample" in ended.out


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = "import sys, rstar.cli.main; print([m for m in ('torch', 'transformers', 'grpc', 'pyarrow', 'kubernetes', 'minio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_printed() -> None:
    assert rstar("version").out.strip()[0].isdigit()


def test_installed_services_are_listed_and_unknown_ones_refused() -> None:
    assert "search" in rstar("serve", "--help").out
    assert "--policy" in rstar("serve", "search", "--help").out
    assert rstar("serve", "nonsense").code == 2


def test_a_part_that_is_installed_brings_its_command_and_one_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    info = tmp_path / "part_of_a_lab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: part-of-a-lab\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rstar.commands]\nlab = part_of_a_lab:app\ngone = no_such_module:app\n")
    (tmp_path / "part_of_a_lab.py").write_text(
        "import typer\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def say() -> None: print('said')\n"
        "@app.command()\n"
        "def other() -> None: ...\n"
    )
    environment = {**PLAIN, "PYTHONPATH": str(tmp_path)}
    assert "lab" in rstar("--help", environment=environment).out
    assert rstar("lab", "say", environment=environment).out == "said\n"
    refused(rstar("gone", environment=environment), "the command gone cannot be loaded", "no_such_module")


def test_games_are_made_disjoint_and_read_back(tmp_path: Path) -> None:
    arguments = [
        "data",
        "make",
        "game24",
        "--out",
        "games",
        "--train",
        "3:5,4:10",
        "--validation",
        "5",
        "--held-out",
        "5",
    ]
    ended = rstar(*arguments, "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    games = [
        tuple(sorted(json.loads(line)["nums"]))
        for name in made
        for line in (tmp_path / made[name]["path"]).read_text().splitlines()
    ]
    assert len(games) == len(set(games)) == 25
    refused(rstar(*arguments, cwd=tmp_path), "there already")


def test_impossible_games_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "games")
    refused(rstar("data", "make", "game24", "--out", out, "--train", "many"), "--train many", "COUNT")
    refused(rstar("data", "make", "game24", "--out", out, "--numbers", "9-1"), "LOW-HIGH")
    refused(rstar("data", "make", "game24", "--out", out, "--train", "3:100000"), "ask for fewer")


def test_a_file_with_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "rounds.yaml"
    document: dict[str, Any] = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {"name": "r1"},
        "spec": {"round": 1, "rolout": {}, "baseModel": "nowhere", "problems": {"uri": "x"}, "verifier": 3},
    }
    file.write_text(yaml.safe_dump(document))
    ended = rstar("run", str(file), "--store", str(tmp_path / "store"))
    refused(ended, "round r1: spec.rolout: unknown key; did you mean rollout?", "spec.verifier")
    assert not (tmp_path / "store" / ".rstar").exists()


def test_status_of_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    refused(rstar("status", "--store", str(tmp_path)), "no round has run", "rstar submit FILE")
    refused(rstar("status", "r9", "--store", str(tmp_path)), "no round 'r9'")


async def test_a_question_is_solved_and_its_program_shown(toy: list[str]) -> None:
    ended = await rstar_beside_servers("solve", "20?", *toy, "--rollouts", "8")
    assert ended.code == 0, ended.err
    assert "x += " in ended.out
    assert "print(x)" in ended.out
    assert "generated tokens" in ended.out


@pytest.mark.parametrize("method", ["mcts", "beam", "best-of-n", "majority", "greedy"])
async def test_every_method_solves_a_problem_of_a_file_as_json(toy: list[str], sums: Path, method: str) -> None:
    named = ["--problem", f"{sums}:p1", "--verifier", "exact", "--method", method, "--json"]
    ended = await rstar_beside_servers("solve", *named, *toy)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["problem"] == "p1"
    assert found["correct"] == (found["answer"] == "20")
    assert found["usage"]["tokens"] > 0


async def test_methods_are_compared_with_accuracy_and_tokens_side_by_side(toy: list[str], sums: Path) -> None:
    methods = ["--method", "greedy", "--method", "mcts:rollouts=16,candidates=4", "--verifier", "exact"]
    ended = await rstar_beside_servers("evaluate", "--problems", str(sums), *methods, *toy, "--json")
    assert ended.code == 0, ended.err
    greedy, mcts = json.loads(ended.out)["methods"]
    assert greedy["accuracy"] == 0.0
    assert mcts["name"] == "mcts:rollouts=16,candidates=4"
    assert mcts["low"] <= mcts["accuracy"] <= mcts["high"]
    assert mcts["accuracy"] <= mcts["any"]
    assert mcts["tokens"] > greedy["tokens"]
    table = await rstar_beside_servers("evaluate", "--problems", str(sums), *methods, *toy)
    assert "tokens/problem" in table.out
    assert "accuracy" in table.out


def test_what_cannot_be_evaluated_is_refused_before_anything_starts(sums: Path) -> None:
    base = ["evaluate", "--problems", str(sums)]
    server = ["--policy", "127.0.0.1:1"]
    refused(rstar(*base), "--policy-model FOLDER or --policy HOST:PORT")
    refused(rstar(*base, "--policy-model", "nowhere"), "--policy-model nowhere", "config.json")
    refused(rstar(*base, *server, "--method", "beam"), "give --ppm-model or --ppm")
    refused(rstar(*base, *server, "--set", "rolouts=3"), "rolouts: unknown key; did you mean rollouts?")
    refused(rstar(*base, *server, "--set", "rollouts=0"), "rollouts: must be at least 1")
    refused(rstar(*base, *server, "--verifier", "exakt"), "exact")
    refused(rstar("evaluate", "--problems", "none.jsonl", *server), "none.jsonl")


def test_a_problem_that_is_not_in_the_file_names_the_nearest(sums: Path) -> None:
    refused(rstar("solve", "--problem", f"{sums}:p7", "--policy", "127.0.0.1:1"), "has no problem 'p7'")
    refused(rstar("solve", "--policy", "127.0.0.1:1"), "QUESTION or --problem")

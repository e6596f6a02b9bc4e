"""The commands that need no running round, as real processes: output, exit codes, one sentence per error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import PLAIN_TERMINAL, assert_refused, rstar, rstar_with_servers
from tests.support.jobs.coordinator import coordinator
from tests.support.scripted import ClosenessModel, DigitPolicy


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "status",
        "solve",
        "evaluate",
        "verify",
        "data make game24",
        "executor run",
        "executor doctor",
        "doctor",
        "export hub",
    ],
)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    finished = rstar(*command.split(), "--help")
    assert finished.code == 0
    assert f"rstar {command}" in " ".join(finished.out.split())
    assert "xample" in finished.out


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = "import sys, rstar.cli.main; print([m for m in ('torch', 'transformers', 'grpc', 'pyarrow', 'kubernetes', 'minio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_printed() -> None:
    assert rstar("version").out.strip()[0].isdigit()


def test_installed_services_are_listed_and_an_unknown_one_is_an_error() -> None:
    assert "search" in rstar("serve", "--help").out
    assert "--policy" in rstar("serve", "search", "--help").out
    assert rstar("serve", "nonsense").code == 2


def test_an_installed_package_adds_its_command_and_one_that_cannot_be_imported_names_the_missing_module(
    tmp_path: Path,
) -> None:
    info = tmp_path / "lab_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rstar.commands]\nlab = lab_package:app\ngone = no_such_module:app\n")
    (tmp_path / "lab_package.py").write_text(
        "import typer\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def greet() -> None: print('hello')\n"
        "@app.command()\n"
        "def other() -> None: ...\n"
    )
    environment = {**PLAIN_TERMINAL, "PYTHONPATH": str(tmp_path)}
    assert "lab" in rstar("--help", environment=environment).out
    assert rstar("lab", "greet", environment=environment).out == "hello\n"
    assert_refused(rstar("gone", environment=environment), "the command gone cannot be loaded", "no_such_module")


def test_the_files_of_made_games_share_no_set_of_numbers_and_are_never_overwritten(tmp_path: Path) -> None:
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
    finished = rstar(*arguments, "--json", cwd=tmp_path)
    assert finished.code == 0, finished.err
    made = json.loads(finished.out)
    games = [
        tuple(sorted(json.loads(line)["nums"]))
        for name in made
        for line in (tmp_path / made[name]["path"]).read_text().splitlines()
    ]
    assert len(games) == len(set(games)) == 25
    assert_refused(rstar(*arguments, cwd=tmp_path), "exist already")


def test_games_that_cannot_be_made_are_an_error(tmp_path: Path) -> None:
    out = str(tmp_path / "games")
    assert_refused(rstar("data", "make", "game24", "--out", out, "--train", "many"), "--train many", "COUNT")
    assert_refused(rstar("data", "make", "game24", "--out", out, "--numbers", "9-1"), "LOW-HIGH")
    assert_refused(rstar("data", "make", "game24", "--out", out, "--train", "3:100000"), "ask for fewer")


def test_an_invalid_file_is_an_error_that_names_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "rounds.yaml"
    document: dict[str, Any] = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {"name": "r1"},
        "spec": {"round": 1, "rolout": {}, "baseModel": "nowhere", "problems": {"uri": "x"}, "verifier": 3},
    }
    file.write_text(yaml.safe_dump(document))
    finished = rstar("run", str(file), "--store", str(tmp_path / "store"))
    assert_refused(finished, "round r1: spec.rolout: unknown key; did you mean rollout?", "spec.verifier")
    assert not (tmp_path / "store" / ".rstar").exists()


def test_the_status_of_an_empty_store_says_how_to_start(tmp_path: Path) -> None:
    assert_refused(rstar("status", "--store", str(tmp_path)), "no round has run", "rstar submit FILE")
    assert_refused(rstar("status", "r9", "--store", str(tmp_path)), "no round 'r9'")


async def test_a_question_is_solved_and_its_program_is_printed(toy: list[str]) -> None:
    finished = await rstar_with_servers("solve", "20?", *toy, "--rollouts", "8")
    assert finished.code == 0, finished.err
    assert "x += " in finished.out
    assert "print(x)" in finished.out
    assert "generated tokens" in finished.out
    assert "PPM score by step: +" in finished.out


@pytest.mark.parametrize("method", ["mcts", "beam", "best-of-n", "majority", "greedy"])
async def test_every_method_solves_a_problem_of_a_file_and_prints_json(toy: list[str], sums: Path, method: str) -> None:
    named = ["--problem", f"{sums}:p1", "--verifier", "exact", "--method", method, "--json"]
    finished = await rstar_with_servers("solve", *named, *toy)
    assert finished.code == 0, finished.err
    found = json.loads(finished.out)
    assert found["problem"] == "p1"
    assert found["correct"] == (found["answer"] == "20")
    assert found["usage"]["tokens"] > 0
    assert len(found["stepScores"] or []) == len(found["trajectory"])


@pytest.mark.parametrize("method", ["mcts", "beam", "best-of-n", "majority", "greedy"])
async def test_a_running_coordinator_finds_what_a_search_here_finds(toy: list[str], sums: Path, method: str) -> None:
    named = ["--problem", f"{sums}:p1", "--verifier", "exact", "--method", method, "--json"]
    async with coordinator(DigitPolicy(), ClosenessModel(20)) as address:
        there = await rstar_with_servers("solve", *named, "--search", address)
    here = await rstar_with_servers("solve", *named, *toy)
    assert there.code == here.code == 0, there.err
    found, expected = json.loads(there.out), json.loads(here.out)
    sampled = method not in {"mcts", "beam"}
    if sampled:  # A coordinator scores the ends of sampled solutions; here each step is scored after the search.
        del found["stepScores"], expected["stepScores"]
    digests = ("policyDigest", "ppmDigest")
    assert {**found, **dict.fromkeys(digests)} == {**expected, **dict.fromkeys(digests)}


async def test_a_coordinator_without_a_ppm_says_how_to_search_without_one(sums: Path) -> None:
    named = ["--problem", f"{sums}:p1", "--verifier", "exact"]
    async with coordinator(DigitPolicy()) as address:
        refused = await rstar_with_servers("solve", *named, "--search", address)
        unguided = await rstar_with_servers("solve", *named, "--search", address, "--set", "guidance=none")
    assert refused.code == 1
    assert "Traceback" not in refused.err
    assert "guidance: none" in refused.err
    assert unguided.code == 0, unguided.err


def test_a_coordinator_beside_models_is_an_error(sums: Path) -> None:
    refused = rstar("solve", "--problem", f"{sums}:p1", "--search", "127.0.0.1:1", "--policy", "127.0.0.1:2")
    assert_refused(refused, "--search", "leave their options out")


def test_an_unknown_problem_is_an_error_that_shows_what_ids_look_like(sums: Path) -> None:
    refused = rstar("solve", "--problem", f"{sums}:p7", "--policy", "127.0.0.1:1")
    assert_refused(
        refused, "has no problem 'p7': ids there are like 'p0', 'p1', 'p2'; the number of a row works too, 1 to 3"
    )
    assert_refused(rstar("solve", "--policy", "127.0.0.1:1"), "QUESTION or --problem")


async def test_a_problem_is_named_by_its_id_or_else_by_the_number_of_its_row(toy: list[str], tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"id": "2", "question": "20?"}, {"question": "20?"}, {"question": "20?"}, {"id": "b", "question": "20?"}]
    file.write_text("\n".join(json.dumps({**row, "answer": "20"}) for row in rows))

    async def chosen(name: str) -> str:
        finished = await rstar_with_servers(
            "solve", "--problem", f"{file}:{name}", *toy, "--method", "greedy", "--json"
        )
        assert finished.code == 0, finished.err
        problem: str = json.loads(finished.out)["problem"]
        return problem

    assert await chosen("2") == "2"
    assert await chosen("4") == "b"
    assert await chosen("3") not in {"2", "b"}  # by its content; row 2 has the same


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "solve"])
async def test_a_split_of_a_data_set_folder_is_read_by_every_command(
    toy: list[str], tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sums"
    folder.mkdir()
    for split, count in (("train", 1), ("test", 2)):
        rows = [{"question": f"{i}+20?", "answer": "so\n#### 20"} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setitem(PLAIN_TERMINAL, "HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(PLAIN_TERMINAL, "HF_HOME", str(tmp_path / "home"))
    options = ["--format", "gsm8k", "--split", "test", "--method", "greedy", "--verifier", "exact", "--json", *toy]
    named = ["--problems", f"hf:{folder}"] if command == "evaluate" else ["--problem", f"hf:{folder}:2"]
    finished = await rstar_with_servers(command, *named, *options)
    assert finished.code == 0, finished.err
    if command == "evaluate":
        assert json.loads(finished.out)["problems"] == 2
    unknown = [word if word != "test" else "validation" for word in options]
    assert_refused(await rstar_with_servers(command, *named, *unknown), "cannot be loaded", "the split 'validation'")

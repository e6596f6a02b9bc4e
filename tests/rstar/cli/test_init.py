"""``rstar init`` writes a file that the other commands accept as it is, and with its comments taken out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rstar.cli.errors import CommandError
from rstar.cli.init_command import init
from rstar.cli.main import app
from rstar.rounds.load import parse_evolutions, parse_rounds


def written(folder: Path, *options: str, file: str = "my-sums.yaml") -> Path:
    path = folder / file
    result = CliRunner().invoke(app, ["init", str(path), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"rstar plan {path}" in result.output
    return path


def test_the_written_file_is_an_evolution_of_four_rounds(tmp_path: Path) -> None:
    file = written(tmp_path, "--problems", "a b: c.jsonl", "--base-model", "hf:org/name", "--format", "math")
    rounds = parse_rounds(file)
    assert [item.name for item in rounds] == [f"my-sums-r{number}" for number in (1, 2, 3, 4)]
    assert {item.spec.problems.uri for item in rounds} == {"a b: c.jsonl"}
    assert {item.spec.base_model for item in rounds} == {"hf:org/name"}
    assert [item.spec.search.rollouts for item in rounds] == [8, 16, 16, 16]  # the paper's


def test_every_setting_that_is_commented_out_is_one_that_exists(tmp_path: Path) -> None:
    file = written(tmp_path)
    header, body = file.read_text().split("apiVersion", 1)
    text = re.sub(r"^( *)# (?=[a-zA-Z]+:|  - )", r"\1", body, flags=re.MULTILINE)
    assert text.count("#") < body.count("#")
    file.write_text(f"{header}apiVersion{text}")
    first, second, *_ = parse_rounds(file)
    assert first.spec.rollout.policy is not None
    assert second.spec.rollout.policy is None
    assert first.spec.services.policy.engine == "vllm"
    assert first.spec.train_policy.lora is not None
    [evolution] = parse_evolutions(file)
    assert evolution.spec.stop_when.coverage_gain_below == 0.01


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text("mine")
    with pytest.raises(CommandError, match="exists: give another name"):
        init(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("file", "name"), [("24.yaml", None), ("a.yaml", "My Sums"), ("a.yaml", "a" * 31)])
def test_a_name_that_cannot_be_one_is_one_sentence(tmp_path: Path, file: str, name: str | None) -> None:
    with pytest.raises(CommandError, match="is no name of an evolution"):
        init(tmp_path / file, name=name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--format: unknown format of problems 'gsm8': did you mean 'gsm8k'"):
        init(tmp_path / "a.yaml", format="gsm8")
    assert list(tmp_path.iterdir()) == []

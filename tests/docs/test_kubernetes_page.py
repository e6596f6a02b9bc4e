"""What the pages about clusters say must be so: reasons, conditions, values of the charts, files, targets, examples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import rstar_testbed.__main__ as testbed
import typer
import yaml
from rstar_operator.deciding import events
from rstar_operator.deciding.deletion import ARTIFACTS_KEPT
from rstar_operator.deciding.write_failures import WRITE_FAILURES

from rstar.rounds.observed import EndReason, Observed
from rstar.rounds.plan import plan
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from tests.docs.test_docs import PAGES, ROOT, name

PAGE = (ROOT / "docs/kubernetes.md").read_text()
CODE = {
    "plan": ROOT / "rstar/rounds/plan.py",
    "guidance": ROOT / "rstar/rounds/guidance.py",
    "decision": ROOT / "operators/evolution/rstar_operator/deciding/decision.py",
    "events": Path(events.__file__),
}
NO_REASONS = {"Running", "Waiting", "Failed", "Succeeded", "True"}
"""Words of the planner that are phases or a status, and never reasons."""


def words_in(code: Path) -> set[str]:
    """Return the CamelCase words that a module says."""
    constants = (n.value for n in ast.walk(ast.parse(code.read_text())) if isinstance(n, ast.Constant))
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"([A-Z][a-z]+|PPM)+", text)}


def rows_after(heading: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table whose head begins like this: the first cell, and the names in code of all cells."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") :].strip().splitlines()
    for line in lines[2:]:
        if not line.startswith("|"):
            return
        first = line.split("|")[1]
        yield first, re.findall(r"`(\w+)`", line)


def reasons_of_ready() -> set[str]:
    said = words_in(CODE["plan"]) - NO_REASONS
    return said | set(WRITE_FAILURES) | {"InvalidSpec", "NoPreviousPPM"}


def documented_reasons() -> list[str]:
    return [re.findall(r"`(\w+)`", first)[0] for first, _ in rows_after("reason")]


def test_every_reason_of_ready_is_documented_once_and_no_other() -> None:
    assert sorted(documented_reasons()) == sorted(reasons_of_ready())
    assert {"InvalidSpec"} <= words_in(CODE["decision"])


def test_what_warns_is_a_documented_reason() -> None:
    assert set(documented_reasons()) >= events._WARNINGS


def test_every_event_is_documented() -> None:
    told = next(line for line in PAGE.splitlines() if line.startswith("Events besides:"))
    besides = set(re.findall(r"`(\w+)`", told))
    said = words_in(CODE["events"]) - {"Event", "Warning", "Normal", "Ready"}
    assert besides == said - set(documented_reasons())


def test_every_condition_is_documented() -> None:
    spec = EvolutionRoundSpec.model_validate({"round": 1, "baseModel": "store:b", "problems": {"uri": "store:p"}})
    status = plan(spec, "r1", Observed(), datetime(2026, 1, 1, tzinfo=UTC)).status
    documented = {kind for first, _ in rows_after("other conditions") for kind in re.findall(r"`(\w+)`", first)}
    assert documented | {"Ready"} == {condition.type for condition in status.conditions} | {*WRITE_FAILURES, ARTIFACTS_KEPT}


def test_every_reason_of_guidance_is_documented() -> None:
    found = next(names for first, names in rows_after("other conditions") if "PPMGuides" in first)
    assert set(found) - {"PPMGuides"} == words_in(CODE["guidance"])


def test_every_ending_that_does_not_count_is_told() -> None:
    operator = (ROOT / "docs/operator.md").read_text()
    counted = {EndReason.DEADLINE: "deadlineSeconds", EndReason.UNSCHEDULED: "pendingSeconds"}
    others = {EndReason.SUSPENDED: "suspended", EndReason.CANCELLED: "cancelled", EndReason.LOST: "taken away"}
    assert counted.keys() | others.keys() == set(EndReason)
    assert all(word in operator for word in (*counted.values(), *others.values()))


def helm_lines(page: Path) -> list[str]:
    text = page.read_text().replace("\\\n", " ")
    return re.findall(r"helm [^`\n]*?(?:install|upgrade|template)[^`\n]*", text)


def has(values: Any, path: list[str]) -> bool:
    """Say whether the chart has this value; below a free object anything may be set."""
    for key in path:
        if values in ({}, []):
            return True
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_value_set_in_a_command_is_one_of_the_chart(page: Path) -> None:
    for line in helm_lines(page):
        chart = re.search(r"charts/(rstar(?:-tenant)?)\b(?!/ci)", line)
        if chart is None:
            continue
        values = yaml.safe_load((ROOT / "charts" / chart[1] / "values.yaml").read_text())
        for setting in re.findall(r"--set(?:-string)?[ =]'?([^ =]+)=", line):
            path = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", setting)]
            assert has(values, path) or path[:2] == ["quota", "hard"], f"{setting} in: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_of_the_repository_in_a_command_is_there(page: Path) -> None:
    for file in re.findall(r"(?:-f |submit |run )((?:charts|examples)/[\w/.-]+)", page.read_text()):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = re.findall(r"(?:^ +|`)make ([a-z-]+)(?=[ `\n])", page.read_text(), re.MULTILINE)
    assert set(used) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_of_the_testbed_is_one(page: Path) -> None:
    group: Any = typer.main.get_command(testbed.app)
    for command, rest in re.findall(r"-m rstar_testbed (\w+)([^`\n#)]*)", page.read_text()):
        found = group.get_command(click.Context(group), command)
        assert found is not None, command
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


@pytest.mark.parametrize("file", ["examples/game24/rounds.yaml", "examples/gsm8k/rounds.yaml"])
def test_the_rounds_of_an_example_differ_in_name_and_number_alone(file: str) -> None:
    rounds = [EvolutionRound.model_validate(d) for d in yaml.safe_load_all((ROOT / file).read_text())]
    assert [item.spec.round for item in rounds] == [1, 2, 3, 4]
    assert [item.spec.previous_round for item in rounds] == [None, *(item.name for item in rounds[:-1])]
    same = {"round": 1, "previous_round": None}
    assert len({item.spec.model_copy(update=same).model_dump_json() for item in rounds}) == 1

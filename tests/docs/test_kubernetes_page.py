"""The pages about clusters are true: reasons, conditions, chart values, files, make targets and examples exist."""

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
from rstar_operator.deciding.autoscaling import AUTOSCALING_UNAVAILABLE
from rstar_operator.deciding.deletion import ARTIFACTS_KEPT
from rstar_operator.deciding.write_failures import WRITE_FAILURES

from rstar.rounds.observed import EndReason, Observed
from rstar.rounds.plan import plan
from rstar.rounds.spec import EvolutionRoundSpec
from tests.docs.test_docs import PAGES, ROOT, page_name

PAGE = (ROOT / "docs/kubernetes.md").read_text()
CODE = {
    "plan": ROOT / "rstar/rounds/plan.py",
    "guidance": ROOT / "rstar/rounds/guidance.py",
    "decision": ROOT / "operators/evolution/rstar_operator/deciding/decision.py",
    "events": Path(events.__file__),
}
NOT_REASONS = {"Running", "Waiting", "Failed", "Succeeded", "True", "False"}
"""CamelCase words of the planner that are phases or a condition's status, not reasons."""


def camel_case_words(code: Path) -> set[str]:
    """Return the CamelCase string constants of a module."""
    constants = (n.value for n in ast.walk(ast.parse(code.read_text())) if isinstance(n, ast.Constant))
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"([A-Z][a-z]+|PPM)+", text)}


def rows_after(heading: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table whose first heading is ``heading``: the first cell, and all names in code."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") :].strip().splitlines()
    for line in lines[2:]:
        if not line.startswith("|"):
            return
        first = line.split("|")[1]
        yield first, re.findall(r"`(\w+)`", line)


def reasons_of_ready() -> set[str]:
    of_planner = camel_case_words(CODE["plan"]) - NOT_REASONS
    return of_planner | set(WRITE_FAILURES) | {"InvalidSpec", "NoPreviousPPM"}


def documented_reasons() -> list[str]:
    return [re.findall(r"`(\w+)`", first)[0] for first, _ in rows_after("reason")]


def test_the_page_documents_every_reason_of_ready_once_and_no_other() -> None:
    assert sorted(documented_reasons()) == sorted(reasons_of_ready())
    assert {"InvalidSpec"} <= camel_case_words(CODE["decision"])


def test_every_reason_that_warns_is_documented() -> None:
    assert set(documented_reasons()) >= events.WARNINGS


def test_every_reason_of_an_evolution_is_documented() -> None:
    folder = ROOT / "operators/evolution/rstar_operator/deciding"
    words = camel_case_words(folder / "evolution.py") | camel_case_words(folder / "evolution_status.py")
    others = {"Cleared", "Deleted", "EvolutionRound", "Normal", "Ready", "RoundDone", "Warning"}
    section = PAGE[PAGE.index("\n## Several rounds of one template") : PAGE.index("\n## Change a running round")]
    named = set(re.findall(r"`(\w+)`", section[section.index("An evolution's `Ready`") :]))
    assert named - {"Ready"} == words - NOT_REASONS - others | set(WRITE_FAILURES)


def test_every_event_is_documented() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("Events besides:"))
    others = set(re.findall(r"`(\w+)`", line))
    in_code = camel_case_words(CODE["events"]) - {"Event", "Warning", "Normal", "Ready"}
    assert others == in_code - set(documented_reasons())


def test_every_condition_is_documented() -> None:
    spec = EvolutionRoundSpec.model_validate({"round": 1, "baseModel": "store:b", "problems": {"uri": "store:p"}})
    status = plan(spec, "r1", Observed(), datetime(2026, 1, 1, tzinfo=UTC)).status
    documented = {kind for first, _ in rows_after("other conditions") for kind in re.findall(r"`(\w+)`", first)}
    assert documented | {"Ready"} == {condition.type for condition in status.conditions} | {
        *WRITE_FAILURES,
        ARTIFACTS_KEPT,
        AUTOSCALING_UNAVAILABLE,
    }


def test_every_reason_of_guidance_is_documented() -> None:
    found = next(names for first, names in rows_after("other conditions") if "PPMGuides" in first)
    assert set(found) - {"PPMGuides"} == camel_case_words(CODE["guidance"])


def test_every_end_reason_that_is_not_counted_is_documented() -> None:
    operator = (ROOT / "docs/operator.md").read_text()
    counted = {EndReason.DEADLINE: "deadlineSeconds", EndReason.UNSCHEDULED: "pendingSeconds"}
    others = {EndReason.SUSPENDED: "suspended", EndReason.CANCELLED: "cancelled", EndReason.LOST: "taken away"}
    assert counted.keys() | others.keys() == set(EndReason)
    assert all(word in operator for word in (*counted.values(), *others.values()))


def helm_commands(page: Path) -> list[str]:
    text = page.read_text().replace("\\\n", " ")
    return re.findall(r"helm [^`\n]*?(?:install|upgrade|template)[^`\n]*", text)


def has_value(values: Any, path: list[str]) -> bool:
    """Return whether the chart has this value; an empty object or list takes any."""
    for key in path:
        if values in ({}, []):
            return True
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_value_set_in_a_helm_command_exists_in_its_chart(page: Path) -> None:
    for line in helm_commands(page):
        chart = re.search(r"charts/(rstar(?:-tenant)?)\b(?!/ci)", line)
        if chart is None:
            continue
        values = yaml.safe_load((ROOT / "charts" / chart[1] / "values.yaml").read_text())
        for setting in re.findall(r"--set(?:-string)?[ =]'?([^ =]+)=", line):
            path = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", setting)]
            assert has_value(values, path) or path[:2] == ["quota", "hard"], f"{setting} in: {line}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_of_the_repository_in_a_command_exists(page: Path) -> None:
    for file in re.findall(r"(?:-f |submit |run )((?:charts|examples)/[\w/.-]+)", page.read_text()):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = re.findall(r"(?:^ +|`)make ([a-z-]+)(?=[ `\n])", page.read_text(), re.MULTILINE)
    assert set(used) <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_testbed_option_on_a_page_exists(page: Path) -> None:
    group: Any = typer.main.get_command(testbed.app)
    for command, arguments in re.findall(r"-m rstar_testbed (\w+)([^`\n#)]*)", page.read_text()):
        found = group.get_command(click.Context(group), command)
        assert found is not None, command
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known

"""Every page is true: its links, names in the code, commands, options, settings and programs exist and work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from rstar.cli.main import app
from rstar.config import SearchConfig
from rstar.rounds.evolution_spec import Evolution, rounds_of
from rstar.rounds.spec import EvolutionRound
from tests.support.paths import ROOT

FOLDERS = ("docs", "services", "jobs", "examples", "charts", "operators", "testbed", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"(?<!!)\[([^\]]*(?:\[\])?[^\]]*)\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^\s*\$?\s*|`)(rstar(?: .*?)?)(?:`|$)", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    """Remove blocks of code, and inline code unless it is the text of a link."""
    outside_blocks = re.sub(r"^(```.*?^```|    .*?)$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\[?`[^`\n]*`", lambda code: code.group() if code.group().startswith("[") else "", outside_blocks)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_target_of_every_relative_link_exists(page: Path) -> None:
    for text, target in LINK.findall(without_code(page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"[{text}]({target})"
        if anchor:
            assert anchor in anchors(file), f"[{text}]({target})"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_link_to_code_names_a_symbol_of_that_file(page: Path) -> None:
    for text, target in LINK.findall(without_code(page.read_text())):
        identifier = re.fullmatch(r"`(\w+)`", text)
        if identifier and target.endswith(".py"):
            defined = rf"^\s*(?:(?:async )?def|class) {identifier[1]}\b"
            assert re.search(defined, (page.parent / target).resolve().read_text(), re.MULTILINE), f"[{text}]({target})"


@cache
def rstar_command() -> click.Command:
    return typer.main.get_command(app)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Follow the subcommands at the head of ``words``; return the last one and the remaining words."""
    command: Any = rstar_command()
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}, only {', '.join(command.list_commands(context))}"
        command, words = found, words[1:]
    return command, words


def commands_in(page: Path) -> list[str]:
    text = page.read_text().replace("\\\n", " ")
    return [found.strip() for found in COMMAND.findall(text) if not found.startswith("rstar:")]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    for text in commands_in(page):
        words = [
            word for word in shlex.split(text, comments=True)[1:] if not word.isupper()
        ]  # NAME stands for a value of the user
        command, arguments = resolve(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
        assert used <= known | {"-h", "--help"}, f"{text}: {used - known}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_search_setting_in_a_command_exists(page: Path) -> None:
    keys = {field.alias for field in SearchConfig.model_fields.values()}
    for text in commands_in(page):
        for setting in re.findall(r"--set (\w+)=", text):
            assert setting in keys
        for settings in re.findall(r"--method [\w-]+:(\S+)", text):
            assert {pair.partition("=")[0] for pair in settings.split(",") if pair[0].islower()} <= keys


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_round_on_a_page_is_valid(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text()):
        if language == "yaml" and "kind: Evolution" in text:
            for document in yaml.safe_load_all(text):
                if document["kind"] == "Evolution":
                    assert rounds_of(Evolution.model_validate(document))
                else:
                    EvolutionRound.model_validate(document)


@pytest.mark.parametrize("service", ["policy", "ppm", "executor", "search", "openai"])
def test_the_page_of_the_services_names_every_metric_and_every_flag(service: str) -> None:
    page = (ROOT / "docs/services.md").read_text()
    [module] = (ROOT / f"services/{service}/rstar_{service}").rglob("metrics.py")
    code = module.read_text()
    metrics = re.findall(r"(Counter|Gauge|Histogram)\(\s*\"(\w+)\"", code)
    assert metrics
    for kind, metric in metrics:
        assert re.search(rf"`{metric}{'_total' if kind == 'Counter' else ''}[`{{]", page), metric
    command, _ = resolve(["serve", service])
    for parameter in command.params:
        assert any(f"`{option}" in page for option in parameter.opts), parameter.opts


def exported_metrics() -> set[str]:
    """Return the names of all metrics as Prometheus stores them; a histogram has three."""
    found = set()
    for module in (*ROOT.glob("services/*/*/**/metrics.py"), ROOT / "operators/evolution/rstar_operator/metrics.py"):
        code = module.read_text()
        for kind, name in re.findall(r"(Counter|Gauge|Histogram)\(\s*\"(\w+)\"", code):
            endings = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_count", "_sum"]}[kind]
            found |= {f"{name}{ending}" for ending in endings}
        found |= set(re.findall(r"_(?:states|figures)\(\s*\"(\w+)\"", code))
    return found


@pytest.mark.parametrize("file", ["alerts.yaml", "dashboard.json"])
def test_alerts_and_dashboard_read_metrics_that_exist(file: str) -> None:
    text = (ROOT / "charts/rstar/files" / file).read_text()
    read = set(re.findall(r"\brstar_\w+", text))
    assert len(read) > 5
    assert read <= exported_metrics()


def test_the_page_of_the_services_names_every_metric_of_the_operator() -> None:
    page = (ROOT / "docs/services.md").read_text()
    names = {name for name in exported_metrics() if name.startswith("rstar_operator")}
    documented = {name for name in names if re.search(rf"`{name}[`{{]", page)}
    assert names - documented == {f"rstar_operator_pass_seconds_{end}" for end in ("bucket", "count", "sum")}


def programs_with_output() -> list[tuple[str, str]]:
    """Return the Python programs of the pages that are followed by a block with their output."""
    blocks = [block for page in PAGES for block in FENCE.findall(page.read_text())]
    return [(code, output) for (kind, code), (after, output) in pairwise(blocks) if (kind, after) == ("python", "text")]


@pytest.mark.parametrize(("program", "output"), programs_with_output())
def test_a_program_prints_the_output_on_the_page(program: str, output: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (finished.stdout, finished.returncode) == (output, 0), finished.stderr


def test_the_pages_have_programs_and_commands_to_check() -> None:
    assert len(programs_with_output()) >= 2
    assert sum(len(commands_in(page)) for page in PAGES) >= 20

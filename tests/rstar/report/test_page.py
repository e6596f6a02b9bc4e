"""The page in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rstar.report.collect import collect
from rstar.report.page import render
from rstar.report.shelf import Shelf
from tests.support.browser import browser, wait_for_count
from tests.support.rounds.stored_rounds import StoredRounds, two_rounds

HOSTILE = (
    '</script><script>window.attacked = 1</script><img src=x onerror="window.attacked = 2">'
    "'\"><svg onload=window.attacked=3> {{ 7 * 7 }} <!--<script> \u2028 \u2029 ${window.attacked = 4}"
)
ROUND = "r'1\"<b onclick=window.attacked=5>&amp;"
"""A name that the spec would refuse: a store may be written by something else."""


@dataclass
class OpenPage:
    """A page in the browser, with what it asked for and complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def written(rounds: StoredRounds, path: Path, budget: int = 6_000_000) -> Path:
    shelf = Shelf()
    report = collect(rounds.store, {}, 40, shelf.add)
    entries, left_out = shelf.within(budget)
    path.write_text(render(report, entries, datetime(2026, 1, 1, tzinfo=UTC), place="out/store", left_out=left_out))
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


def opened(chromium: Any, path: Path, **options: Any) -> OpenPage:
    page = chromium.new_context(**options).new_page()
    found = OpenPage(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: found.messages.append(message.text))
    page.on("pageerror", lambda error: found.messages.append(str(error)))
    page.goto(path.as_uri())
    draw_all(page)
    return found


def draw_all(page: Any) -> None:
    """Bring every chart into view, and wait until it is drawn."""
    for number in range(page.locator("[data-chart]").count()):
        page.locator("[data-chart]").nth(number).scroll_into_view_if_needed()
    wait_for_count(page, "[data-chart]:not([data-drawn])", 0)


@pytest.fixture(scope="module")
def plain(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> OpenPage:
    folder = tmp_path_factory.mktemp("report")
    return opened(chromium, written(two_rounds(folder / "store"), folder / "report.html"))


def test_every_chart_is_drawn_and_nothing_is_requested(plain: OpenPage) -> None:
    assert plain.page.locator("[data-chart]").count() >= 10
    assert plain.page.locator("[data-chart] svg").count() == plain.page.locator("[data-chart]").count()
    assert not plain.messages
    assert [url for url in plain.requests if not url.startswith("file:")] == []
    assert len(plain.requests) == 1


def test_every_chart_has_a_name_and_a_table(plain: OpenPage) -> None:
    for figure in plain.page.locator("figure").all():
        title = figure.locator("h3").inner_text()
        assert figure.get_attribute("aria-labelledby") == figure.locator("h3").get_attribute("id")
        assert figure.locator("[role=graphics-document]").get_attribute("aria-label"), title
        assert figure.locator("table tbody tr").count() > 0, title


def test_headings_do_not_skip_a_level(plain: OpenPage) -> None:
    levels = plain.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_stage_shows_what_it_was_made_from(plain: OpenPage) -> None:
    page = plain.page
    page.locator(".stage", has_text="policy").last.press("Enter")
    assert page.locator(".stage.made").count() == 6
    details = page.locator("article.details:visible")
    assert "train-policy of r2" in details.inner_text()
    details.get_by_role("link", name="select of r2").click()
    assert "select of r2" in page.locator("article.details:visible h3").inner_text()


def test_a_wrong_trajectory_leads_to_its_tree(plain: OpenPage) -> None:
    page = plain.page
    filters = page.locator("#filters")
    filters.get_by_label("Round").select_option("")
    filters.get_by_label("Verdict").select_option("wrong")
    shown = page.locator(".sample:visible")
    assert {one.get_attribute("data-verdict") for one in shown.all()} == {"wrong"}
    shown.first.locator("summary").click()
    shown.first.get_by_role("button", name="Show its tree").click()
    problem = re.search(r"training \d|held out \d", shown.first.locator(".question").inner_text())
    assert problem is not None
    page.locator("[role=treeitem]").first.wait_for()
    assert problem.group() in page.locator("#tree-viewer").inner_text()


def test_the_theme_follows_the_system_and_a_switch(chromium: Any, tmp_path: Path) -> None:
    path = written(two_rounds(tmp_path / "store"), tmp_path / "report.html")
    page = opened(chromium, path, color_scheme="dark").page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Switch to the light theme").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)" != dark


def test_on_a_phone_the_page_is_not_wider_than_the_screen(chromium: Any, tmp_path: Path) -> None:
    path = written(two_rounds(tmp_path / "store"), tmp_path / "report.html")
    page = opened(chromium, path, viewport={"width": 360, "height": 700}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_hostile_text_is_shown_and_runs_nothing(chromium: Any, tmp_path: Path) -> None:
    rounds = StoredRounds(tmp_path / "store", text=HOSTILE)
    rounds.round(ROUND, 3)
    rounds.store.write(f"rounds/{ROUND}2/rollout/0011223344556677/trees/00000.parquet", b"PAR1 torn")
    found = opened(chromium, written(rounds, tmp_path / "report.html"))
    page = found.page
    for details in page.locator("details").all():
        details.evaluate("(one) => { one.open = true; }")
    for stage in page.locator(".stage").all():
        stage.click()
    page.locator("[data-tree]").first.click()
    page.locator("[role=treeitem]").first.wait_for()
    assert page.evaluate("window.attacked") is None
    assert found.messages == []
    assert page.locator("img, b[onclick], svg[onload]").count() == 0
    assert "<script>window.attacked = 1</script>" in page.locator(".question").first.inner_text()
    assert ROUND in page.locator("main table th[scope=row]").first.inner_text()
    assert f"rounds/{ROUND}2/rollout" in page.locator("#faults").inner_text()


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append(dict(attrs))


def test_the_page_has_its_own_scripts_only_and_a_policy_for_them(tmp_path: Path) -> None:
    rounds = StoredRounds(tmp_path / "store", text=HOSTILE)
    rounds.round("r1", 3)
    page = written(rounds, tmp_path / "report.html").read_text()
    parser = _Scripts()
    parser.feed(page)
    assert [one.get("type") for one in parser.found] == ["application/json", "application/json", None, None, None]
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert "default-src &#39;none&#39;" in policy
    assert policy.count("sha256-") == 4
    assert "unsafe" not in policy


def test_trees_beyond_the_budget_are_left_out_and_counted(tmp_path: Path) -> None:
    rounds = two_rounds(tmp_path / "store")
    page = written(rounds, tmp_path / "report.html", budget=5_000).read_text()
    trees = json.loads(page.split('id="tree-data">')[1].split("</script>")[0])
    assert 0 < sum(len(tree["data"]) for tree in trees) <= 5_000
    assert f"{36 - len(trees)} more did not fit" in page

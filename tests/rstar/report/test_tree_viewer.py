"""The tree viewer in a real headless browser: keyboard, size, hostile text, comparison, play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.report.tree_page import tree_page
from rstar.report.trees import tree_entry
from tests.support.browser import browser, wait_for_count

HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>\"'`${1}&lt;b&gt;"
MOST_ROWS = 60
"""Elements of rows at once; the view has fewer than twenty."""


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Any]:
    with browser() as opened:
        yield opened


class Opened:
    """A page with trees, and what a script of it reported as an error."""

    def __init__(self, browser: Any, folder: Path, entries: list[dict[str, Any]], scheme: str = "light") -> None:
        file = folder / "trees.html"
        file.write_text(tree_page(entries, "Search trees"))
        self.page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme=scheme)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("[role=treeitem]")

    def active(self) -> str:
        """Return what a screen reader says of the active row."""
        return str(
            self.page.evaluate(
                "() => { const tree = document.querySelector('[role=tree]');"
                " return document.getElementById(tree.getAttribute('aria-activedescendant')).getAttribute('aria-label'); }"
            )
        )

    def press(self, *keys: str) -> str:
        """Press keys in the tree and return the active row."""
        self.page.focus("[role=tree]")
        for key in keys:
            self.page.keyboard.press(key)
        return self.active()

    def rows(self) -> int:
        return len(self.page.query_selector_all("[role=treeitem]"))


def small() -> SearchRecord:
    """Two steps; below the first one a right answer, a wrong one and a failed step."""
    return SearchRecord(
        "p",
        (
            NodeRecord(-1, visits=3, value=1.0),
            NodeRecord(0, text="# Step 1: add\nprint(1)<end_of_step>", tokens=5, visits=2, value=1.0, score=0.25),
            NodeRecord(
                1, text="# right", tokens=3, visits=1, value=1, terminal=True, answer="4", correct=True, output="4"
            ),
            NodeRecord(1, text="# wrong", tokens=3, visits=1, value=-1, terminal=True, answer="5", correct=False),
            NodeRecord(
                1, text="# breaks", tokens=3, visits=1, value=-1, valid=False, terminal=True, reason="exception: E"
            ),
            NodeRecord(0, text="# other", tokens=4),
        ),
        chosen=2,
    )


def entry(
    record: SearchRecord, method: str = "rollout", right: bool | None = True, text: str = "2 + 2?"
) -> dict[str, Any]:
    return tree_entry("r1", method, Problem("p", text, "4"), record, right=right)


def wide(nodes: int) -> SearchRecord:
    """A tree with ten next steps of every step, in depth-first order."""
    parents: list[int] = [-1]

    def grow(parent: int, level: int) -> None:
        for _ in range(10):
            if len(parents) >= nodes:
                return
            parents.append(parent)
            if level < 4:
                grow(len(parents) - 1, level + 1)

    grow(0, 1)
    return SearchRecord("p", tuple(NodeRecord(p, text=f"# step {i}", visits=i % 7) for i, p in enumerate(parents)))


def test_the_keyboard_walks_the_tree_and_each_row_says_step_q_visits_and_status(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, [entry(small())])
    assert opened.active() == "step 2: # right, Q 1.00, 1 visits, right answer, chosen answer"
    assert "wrong answer" in opened.press("ArrowDown")
    assert "failed" in opened.press("ArrowDown")
    assert opened.press("ArrowLeft") == "step 1: # Step 1: add, Q 0.50, 2 visits, step"
    opened.press("ArrowLeft")
    assert opened.rows() == 3  # folded
    opened.press("ArrowRight")
    assert opened.rows() == 6
    assert "right answer" in opened.press("ArrowRight")
    assert opened.press("End") == "step 1: # other, Q 0.00, 0 visits, step, never visited"
    assert opened.press("Home") == "the question, Q 0.33, 3 visits, root"
    assert "# breaks" in opened.press("b")
    levels = opened.page.eval_on_selector_all("[role=treeitem]", "rows => rows.map(row => row.ariaLevel)")
    assert levels == ["1", "2", "3", "3", "3", "2"]
    assert opened.page.get_attribute("[role=treeitem]", "aria-expanded") == "true"
    assert not opened.errors


def test_a_node_shows_its_code_output_verdict_score_and_path(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, [entry(small())])
    detail = opened.page.inner_text(".rt-detail")
    assert all(part in detail for part in ("right answer", "# right", "Output", "log-prob", "Path from the root"))
    opened.press("ArrowLeft")
    assert "0.250" in opened.page.inner_text(".rt-detail")
    assert "<end_of_step>" in opened.page.inner_text(".rt-detail")


def test_a_tree_of_10000_nodes_has_only_the_rows_in_view_as_elements(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, [entry(wide(10_000))])
    opened.page.click("text=Unfold all")
    assert opened.rows() <= MOST_ROWS
    assert opened.press("End").startswith("step 4: # step 9999")
    assert opened.rows() <= MOST_ROWS
    spent = opened.page.evaluate(
        "async () => { const start = performance.now(); await rstarViewer.open(rstarViewer.entries[0].id);"
        " return performance.now() - start; }"
    )
    print(f"a tree of 10,000 nodes opened in {spent:.0f} ms")
    assert not opened.errors


def test_hostile_text_is_shown_as_text_and_runs_no_script(browser: Any, tmp_path: Path) -> None:
    nodes = (
        NodeRecord(-1),
        NodeRecord(0, text=HOSTILE, output=HOSTILE, reason=HOSTILE, answer=HOSTILE, terminal=True, correct=False),
    )
    record = SearchRecord("p", nodes, chosen=1, error=HOSTILE)
    opened = Opened(browser, tmp_path, [entry(record, method=HOSTILE, text=HOSTILE), entry(record)])
    opened.page.click("text=Compare two trees")
    wait_for_count(opened.page, ".rt-detail", 2)
    assert opened.page.evaluate("window.ran") is None
    assert opened.page.query_selector("#viewer img, #viewer script, #viewer b") is None
    assert HOSTILE in opened.page.inner_text(".rt-detail pre")
    assert len(opened.requests) == 1, "the page asks for nothing but itself"
    assert not opened.errors


def test_two_methods_are_compared_side_by_side(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, [entry(small()), entry(small(), "greedy", None), entry(small(), "mcts", False)])
    opened.page.click("text=Compare two trees")
    wait_for_count(opened.page, "[role=tree]", 2)
    words = opened.page.eval_on_selector_all(".rt-pane strong", "marks => marks.map(mark => mark.textContent)")
    assert words[0] == "✓ right"
    assert words[1] != words[0]
    opened.page.click("text=Show one tree")
    wait_for_count(opened.page, "[role=tree]", 1)


def test_trajectories_are_played_one_by_one_and_named_for_what_they_are(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, [entry(small())])
    assert "4 trajectories" in opened.page.inner_text(".rt-pane")
    opened.page.click("[aria-label='next trajectory']")
    assert opened.rows() == 3
    assert "Trajectory 1 of 4" in opened.page.inner_text(".rt-pane")
    opened.page.click("[aria-label='next trajectory']")
    assert opened.rows() == 4
    opened.page.click("text=Whole tree")
    assert opened.rows() == 6


def test_problems_are_found_by_words_and_by_their_marks(browser: Any, tmp_path: Path) -> None:
    entries = [
        tree_entry("r1", "m", Problem(f"p{i}", f"question {i} {'odd' if i % 2 else 'even'}"), small(), right=i % 2 == 0)
        for i in range(10)
    ]
    opened = Opened(browser, tmp_path, entries)
    opened.page.fill("input[type=search]", "odd 3")
    assert len(opened.page.query_selector_all(".rt-list li")) == 1
    opened.page.fill("input[type=search]", "")
    opened.page.select_option("[aria-label='which problems']", "wrong")
    assert len(opened.page.query_selector_all(".rt-list li")) == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(browser: Any, tmp_path: Path, scheme: str) -> None:
    opened = Opened(browser, tmp_path, [entry(small())], scheme)

    def luminance(color: str) -> float:
        channels = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    background = opened.page.eval_on_selector(".rt", "element => getComputedStyle(element).backgroundColor")
    for selector in (".rt", ".rt-muted", ".rt-good", ".rt-bad"):
        text = opened.page.eval_on_selector(selector, "element => getComputedStyle(element).color")
        low, high = sorted([luminance(background), luminance(text)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, selector, text)

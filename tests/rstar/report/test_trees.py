"""Search trees for the viewer: columns, embedding, the order of play, Graphviz; pure."""

from __future__ import annotations

import asyncio
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.report.dot import dot, quoted
from rstar.report.embed import packed, script_json, unpacked
from rstar.report.play import played, trajectories
from rstar.report.tree_page import tree_page
from rstar.report.trees import CORRECT, TERMINAL, VALID, WRONG, columns, mark, tree_entry
from rstar.search.solve import solve
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor

TEXT = st.text(st.sampled_from("ab <>&/!-\"'\\\n\t\x00{};\u2028\u2029\u00e9\u4e2d\U0001f600"), max_size=30)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def records(draw: st.DrawFn) -> SearchRecord:
    steps = [
        NodeRecord(
            parent=draw(st.integers(0, position)),
            text=draw(TEXT),
            tokens=draw(st.integers(0, 99)),
            logprob=draw(FINITE),
            visits=draw(st.integers(0, 9)),
            value=draw(FINITE),
            score=draw(st.none() | FINITE),
            valid=draw(st.booleans()),
            reason=draw(TEXT),
            terminal=draw(st.booleans()),
            output=draw(TEXT),
            answer=draw(st.none() | TEXT),
            correct=draw(st.none() | st.booleans()),
        )
        for position in range(draw(st.integers(0, 11)))
    ]
    nodes = (NodeRecord(-1), *steps)
    return SearchRecord("p", nodes, Usage(1, 2, 3, 4, 5), draw(st.integers(-1, len(nodes) - 1)))


def read_columns(data: dict[str, Any]) -> tuple[NodeRecord, ...]:
    """Return the nodes, as the browser reads them."""

    def text(column: str, i: int) -> str | None:
        place = data[column][i]
        return None if place < 0 else data["texts"][place]

    def verdict(flags: int) -> bool | None:
        return True if flags & CORRECT else False if flags & WRONG else None

    return tuple(
        NodeRecord(
            parent=data["parent"][i],
            tree=data["tree"][i],
            text=text("text", i) or "",
            tokens=data["tokens"][i],
            logprob=data["logprob"][i],
            visits=data["visits"][i],
            value=data["value"][i],
            score=data["score"][i],
            valid=bool(flags & VALID),
            reason=text("reason", i) or "",
            terminal=bool(flags & TERMINAL),
            output=text("output", i) or "",
            answer=text("answer", i),
            correct=verdict(flags),
        )
        for i, flags in enumerate(data["flags"])
    )


@given(records())
def test_columns_hold_every_node_without_loss(record: SearchRecord) -> None:
    data = unpacked(packed(columns(record)))
    assert read_columns(data) == record.nodes
    assert data["chosen"] == record.chosen


def test_a_number_that_json_cannot_hold_becomes_null() -> None:
    record = SearchRecord("p", (NodeRecord(-1, logprob=float("-inf"), value=float("nan")),))
    data = columns(record)
    assert (data["logprob"], data["value"]) == ([None], [None])


@given(TEXT)
def test_no_text_ends_a_script_element(text: str) -> None:
    found = script_json({"text": text + "</script><!-- \u2028"})
    assert json.loads(found)["text"].startswith(text)
    assert found.isascii()
    assert not set("<>&") & set(found)


@given(text=TEXT)
def test_a_page_has_no_element_from_a_text_of_the_store(text: str) -> None:
    problem = Problem("p", f"{text}<img src=x>", f"</script><b>{text}")
    page = tree_page([tree_entry("r", "m", problem, SearchRecord("p", (NodeRecord(-1),)), right=None)], f"<i>{text}")
    seen: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            seen.append(tag)

    Parser().feed(page)
    assert not {"img", "b", "i"} & set(seen)
    assert seen.count("script") == 3


@given(records())
def test_each_trajectory_ends_in_a_leaf_and_every_node_appears_once(record: SearchRecord) -> None:
    play = trajectories(record)
    parents = {node.parent for node in record.nodes}
    leaves = [i for i, node in enumerate(record.nodes) if node.parent >= 0 and i not in parents]
    assert play.ends == leaves
    for i, node in enumerate(record.nodes):
        assert (play.first[i] == 0) == (node.parent < 0)
        if node.parent >= 0:
            assert play.first[node.parent] <= play.first[i]


class _Twenty:
    async def verify(self, problem: Problem, answer: str) -> Verdict:
        return Verdict(answer.strip() == "20", "")


def searched(seed: int, sizes: list[int] | None = None, **given: Any) -> SearchRecord:
    """Return a real search; ``sizes`` receives the number of nodes after each rollout."""
    config = SearchConfig(rollouts=6, candidates=4, **given)
    found = [] if sizes is None else sizes
    return asyncio.run(
        solve(
            Problem("p", "20?", "20"),
            config,
            policy=DigitPolicy(),
            executor=SumExecutor(),
            ppm=ClosenessModel(20) if config.guidance == "ppm" else None,
            verifier=_Twenty(),
            seed=seed,
            on_progress=lambda progress: found.append(progress.usage.nodes),
        )
    )


@pytest.mark.parametrize("guidance", ["ppm", "none"])
def test_replayed_rollouts_are_those_of_the_search(guidance: str) -> None:
    replayed = 0
    for seed in range(12):
        sizes: list[int] = []
        record = searched(seed, sizes, guidance=guidance)
        play = played(record)
        if play.kind == "trajectories":  # several settings give the same N and q, and differ in the order
            continue
        replayed += 1
        assert len(play.ends) == record.usage.rollouts
        for turn in range(1, record.usage.rollouts + 1):
            assert sum(0 < first <= turn for first in play.first) == sizes[turn - 1]
    assert replayed


def test_a_search_whose_figures_do_not_follow_from_uct_has_trajectories_only() -> None:
    record = searched(1, guidance="ppm")
    changed = [*record.nodes]
    changed[0] = NodeRecord(-1, visits=changed[0].visits + 1, value=changed[0].value)
    altered = SearchRecord("p", tuple(changed), record.usage, record.chosen)
    assert played(altered).kind == "trajectories"


@pytest.mark.parametrize("method", ["best_of_n", "greedy"])
def test_sampled_solutions_are_never_called_rollouts(method: str) -> None:
    assert played(searched(3, method=method, guidance="none")).kind == "trajectories"


@given(TEXT)
def test_graphviz_strings_end_only_at_their_own_quote(text: str) -> None:
    found = quoted(text)
    inner = found[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner
    assert "\n" not in found


def test_a_graph_has_every_node_and_edge() -> None:
    record = searched(1, guidance="ppm")
    text = dot([('a "label"\n}', record)])
    assert text.count(" -> ") == sum(node.parent >= 0 for node in record.nodes)
    assert text.count("penwidth=3") == len(record.path(record.chosen))


def test_the_graded_answer_decides_the_mark_before_the_nodes_do() -> None:
    solved = SearchRecord("p", (NodeRecord(-1), NodeRecord(0, terminal=True, answer="1", correct=True)))
    assert mark(solved, None) is True
    assert mark(solved, False) is False
    assert mark(SearchRecord("p", (NodeRecord(-1), NodeRecord(0, terminal=True, answer="1"))), None) is None
    assert mark(SearchRecord("p", (NodeRecord(-1),)), None) is False

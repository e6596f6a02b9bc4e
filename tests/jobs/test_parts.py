"""The pure parts of the search stages and of every program: merging, splits, the result's size."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from rstar_jobs.program import RESULT_BYTES, result_bytes
from rstar_jobs.searches import merge
from rstar_jobs.select import split_of

from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.observed import ManifestRef

REF = ManifestRef("rounds/r1/evaluate/0123456789abcdef/manifest.json", "f" * 64)


def record(text: str, *, solved: bool, chosen: int) -> SearchRecord:
    nodes = (
        NodeRecord(-1),
        NodeRecord(0, text=text, terminal=True, answer=text, correct=solved),
        NodeRecord(-1, tree=1),
    )
    return SearchRecord("p", nodes, Usage(1, 2, 3, 4, 5), chosen, "policy")


def test_merged_searches_keep_their_paths_trees_and_spending() -> None:
    both = merge(record("a", solved=False, chosen=-1), record("b", solved=True, chosen=1))
    assert [both.steps(i) for i in (1, 4)] == [["a"], ["b"]]
    assert [node.tree for node in both.nodes] == [0, 0, 1, 2, 2, 3]
    assert both.usage == Usage(2, 4, 6, 8, 10)
    assert (both.chosen, both.solved, both.policy_digest) == (4, True, "policy")
    assert merge(record("a", solved=False, chosen=1), record("b", solved=True, chosen=1)).chosen == 1


def test_a_problem_is_held_out_by_its_id_alone_in_about_the_share_asked_for() -> None:
    splits = [split_of(f"p{i}", 0.2) for i in range(5_000)]
    assert splits == [split_of(f"p{i}", 0.2) for i in range(5_000)]
    assert 0.17 < splits.count("heldout") / 5_000 < 0.23


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=3_000), max_size=8))
def test_a_result_fits_into_a_termination_message_and_names_what_it_left_out(metrics: dict[str, str]) -> None:
    metrics.pop("omitted", None)
    data = result_bytes(REF, metrics)
    shown = json.loads(data)
    assert len(data) <= RESULT_BYTES
    assert (shown["manifest"], shown["digest"]) == (REF.key, REF.digest)
    omitted = shown["metrics"].pop("omitted", [])
    assert {**shown["metrics"], **{name: metrics[name] for name in omitted}} == metrics

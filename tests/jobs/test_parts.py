"""Pure functions of the stage programs: merged records, counts, splits, and the size of a result."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from rstar_jobs.program import RESULT_BYTES, result_bytes
from rstar_jobs.rollout import Tally
from rstar_jobs.searches import merge_records
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


def test_merged_records_keep_their_paths_trees_and_usage() -> None:
    both = merge_records(record("a", solved=False, chosen=-1), record("b", solved=True, chosen=1))
    assert [both.steps(i) for i in (1, 4)] == [["a"], ["b"]]
    assert [node.tree for node in both.nodes] == [0, 0, 1, 2, 2, 3]
    assert both.usage == Usage(2, 4, 6, 8, 10)
    assert (both.chosen, both.solved, both.policy_digest) == (4, True, "policy")
    assert merge_records(record("a", solved=False, chosen=1), record("b", solved=True, chosen=1)).chosen == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6), st.randoms())
def test_counts_do_not_depend_on_the_order_in_which_shards_are_stored(
    kinds: list[tuple[bool, bool]], order: Random
) -> None:
    records = [replace(record("a", solved=solved, chosen=-1), error="x" * failed) for solved, failed in kinds]
    counted, shuffled = Tally(), Tally()
    counted.add(records)
    for one in order.sample(records, len(records)):
        shuffled.add([one])
    assert counted.metrics() == shuffled.metrics()
    assert counted.metrics() == {
        "problems": len(kinds),
        "solved": sum(solved for solved, _ in kinds),
        "failed": sum(failed for _, failed in kinds),
        "coverage": round(sum(solved for solved, _ in kinds) / len(kinds), 6),
        "rollouts": len(kinds),
        "nodes": 2 * len(kinds),
        "tokens": 3 * len(kinds),
        "executions": 4 * len(kinds),
        "failed_steps": {},
    }


def test_a_problem_is_held_out_by_its_id_alone_and_about_the_requested_share_is() -> None:
    splits = [split_of(f"p{i}", 0.2) for i in range(5_000)]
    assert splits == [split_of(f"p{i}", 0.2) for i in range(5_000)]
    assert 0.17 < splits.count("held_out") / 5_000 < 0.23


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=3_000), max_size=8))
def test_a_result_fits_into_a_termination_message_and_names_the_omitted_metrics(metrics: dict[str, str]) -> None:
    metrics.pop("omitted", None)
    data = result_bytes(REF, metrics)
    shown = json.loads(data)
    assert len(data) <= RESULT_BYTES
    assert (shown["manifest"], shown["digest"]) == (REF.key, REF.digest)
    omitted = shown["metrics"].pop("omitted", [])
    assert {**shown["metrics"], **{name: metrics[name] for name in omitted}} == metrics

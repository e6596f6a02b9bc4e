"""Pure functions of the stage programs: merged records, counts, splits, and the size of a result."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_jobs.errors import BadInputError
from rstar_jobs.program import RESULT_BYTES, result_bytes
from rstar_jobs.rollout import Tally, training_problems
from rstar_jobs.search_work import merge_records
from rstar_jobs.select import Selection, split_of

from rstar.problem import Problem
from rstar.readers.collect import Reading
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.observed import ManifestRef
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.rounds.spec import EvolutionRoundSpec, SelectSpec

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


SPLITS = st.lists(st.sampled_from(["mixed", "all correct", "all wrong"]), min_size=1, max_size=30)


def selected(kinds: list[str], *, holds_out: bool) -> Selection:
    """Select from problems of these kinds, half of which are held out."""
    selection = Selection(SelectSpec(held_out_fraction=0.5), 0, holds_out=holds_out)
    for number, kind in enumerate(kinds):
        verdicts = {"mixed": (True, False), "all correct": (True, True), "all wrong": (False, False)}[kind]
        leaves = (
            NodeRecord(0, text=f"t{i}", visits=1, value=2.0 * correct - 1, terminal=True, answer="1", correct=correct)
            for i, correct in enumerate(verdicts)
        )
        problem = Problem(f"p{number}", f"question {number}", "1")
        selection.add(problem, SearchRecord(problem.id, (NodeRecord(-1), *leaves)))
    return selection


@given(SPLITS)
def test_no_problem_whose_pairs_measure_the_ppm_is_in_the_sft_data(kinds: list[str]) -> None:
    selection = selected(kinds, holds_out=True)
    measuring = {pair.problem_id for pair, split in selection.pairs if split == "held_out"}
    trained = {example.problem_id for example in selection.sft}
    assert not measuring & trained
    solved = {f"p{number}" for number, kind in enumerate(kinds) if kind != "all wrong"}
    assert measuring | trained == solved, "no other solved problem is left out"
    assert selection.metrics()["sft_problems_held_out"] == len(measuring)


@given(SPLITS)
def test_nothing_is_held_out_where_no_ppm_is_trained(kinds: list[str]) -> None:
    selection = selected(kinds, holds_out=False)
    assert {split for _, split in selection.pairs} <= {"train"}
    assert {e.problem_id for e in selection.sft} == {f"p{n}" for n, kind in enumerate(kinds) if kind != "all wrong"}


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=3_000), max_size=8))
def test_a_result_fits_into_a_termination_message_and_names_the_omitted_metrics(metrics: dict[str, str]) -> None:
    metrics.pop("omitted", None)
    data = result_bytes(REF, metrics, "0.1.0+0123456789ab")
    shown = json.loads(data)
    assert len(data) <= RESULT_BYTES
    assert (shown["manifest"], shown["digest"]) == (REF.key, REF.digest)
    omitted = shown["metrics"].pop("omitted", [])
    assert {**shown["metrics"], **{name: metrics[name] for name in omitted}} == metrics


TRAINING = [
    Problem("t1", "What is 1 + 1?", "2"),
    Problem("t2", "What is 2 + 2?", None),
    Problem("t3", "What is 3?", "3"),
]


def read_problems(spec: ProblemsSpec) -> Reading:
    return Reading(TRAINING if spec.uri == "store:train" else [Problem("h1", "what is 1+1", "2")])


def spec_with(overlap: str) -> EvolutionRoundSpec:
    evaluate = {
        "problems": {"uri": "store:test"},
        "methods": [{"name": "greedy", "method": "greedy"}],
        "overlap": overlap,
    }
    return EvolutionRoundSpec.model_validate(
        {"round": 1, "baseModel": "store:base", "problems": {"uri": "store:train"}, "evaluate": evaluate}
    )


@pytest.mark.parametrize(("overlap", "kept"), [("drop", ["t3"]), ("allow", ["t1", "t3"])])
def test_problems_without_an_answer_and_overlapping_ones_are_left_out_and_counted(
    overlap: str, kept: list[str]
) -> None:
    problems, counts = training_problems(spec_with(overlap), read_problems)
    assert [problem.id for problem in problems] == kept
    assert counts == {"without_answer": 1, "overlap": 1}


def test_an_overlap_with_the_evaluation_is_refused_with_the_pair_and_the_remedy() -> None:
    with pytest.raises(
        BadInputError, match=r"1 training problems .* \(1 by text: t1 and h1\).* evaluate\.overlap to drop"
    ):
        training_problems(spec_with("refuse"), read_problems)


def test_training_problems_without_any_answer_are_refused() -> None:
    with pytest.raises(BadInputError, match="none of the 1 training problems has an answer"):
        training_problems(spec_with("allow"), lambda _: Reading([Problem("t", "q")]))

"""Selection on small trees, against results worked out by hand."""

import asyncio
from dataclasses import replace

import pytest

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.search.solve import solve
from rstar.selection import Difficulty, PairRules, SftRules, difficulty, preference_pairs, sft_examples
from tests.support.scripted import DigitPolicy, SumExecutor, SumVerifier

PROBLEM = Problem("p", "question", "1")


def terminal(parent: int, text: str, correct: bool) -> NodeRecord:
    return NodeRecord(
        parent, text=text, visits=1, value=1.0 if correct else -1.0, terminal=True, answer=text, correct=correct
    )


RECORD = SearchRecord(
    "p",
    (
        NodeRecord(-1, visits=4, value=0),
        NodeRecord(0, text="a", visits=2, value=2),  # 1: only correct answers below
        NodeRecord(0, text="b", visits=2, value=-2),  # 2: only wrong ones
        terminal(1, "a1", True),
        terminal(1, "a2", True),
        terminal(2, "b1", False),
        terminal(2, "b2", False),
        NodeRecord(0, text="c", visits=1, value=-1, valid=False, terminal=True, reason="exception"),
    ),
)


def test_the_best_trajectories_by_mean_q_are_kept() -> None:
    examples = sft_examples(PROBLEM, RECORD, SftRules(trajectories_per_problem=1))
    assert [e.steps for e in examples] == [("a", "a1")]
    assert examples[0].mean_q == 1.0
    assert len(sft_examples(PROBLEM, RECORD)) == 2


def test_a_synthetic_problem_with_mostly_wrong_trajectories_is_dropped() -> None:
    synthetic = Problem("p", "question", "1", synthetic=True)
    assert sft_examples(synthetic, RECORD)  # exactly half are correct
    assert not sft_examples(synthetic, RECORD, SftRules(min_correct_share_synthetic=0.6))


def test_step_pairs_share_a_prefix_and_the_final_rule_pairs_whole_trajectories() -> None:
    pairs = preference_pairs(PROBLEM, RECORD)
    step_pairs = [p for p in pairs if not p.final]
    assert [(p.chosen, p.rejected) for p in step_pairs] == [(("a",), ("b",))]
    assert step_pairs[0].margin == 2.0
    final = [p for p in pairs if p.final]
    assert {(p.chosen, p.rejected) for p in final} == {
        ((good[0], good), (bad[0], bad)) for good in ("a1", "a2") for bad in ("b1", "b2")
    }


def test_the_final_answer_rule_takes_as_many_trajectories_as_asked() -> None:
    assert sum(p.final for p in preference_pairs(PROBLEM, RECORD, PairRules(final_trajectories=1))) == 1
    assert not any(p.final for p in preference_pairs(PROBLEM, RECORD, PairRules(final_trajectories=0)))


def test_the_weights_of_one_node_add_up_to_one() -> None:
    pairs = preference_pairs(PROBLEM, RECORD)
    assert sum(p.weight for p in pairs if not p.final) == pytest.approx(1)
    assert sum(p.weight for p in pairs if p.final) == pytest.approx(1)


def test_the_rules_of_the_release_drop_close_pairs() -> None:
    assert not preference_pairs(PROBLEM, RECORD, PairRules(min_edit_distance=20))
    closer = replace(RECORD, nodes=tuple(replace(node, value=0.75 * node.value) for node in RECORD.nodes))
    assert len(preference_pairs(PROBLEM, closer, PairRules(min_margin=1.5))) == 5
    assert not preference_pairs(PROBLEM, closer, PairRules(min_margin=1.6))


def test_a_step_with_few_visits_counts_only_when_all_its_children_have_verdicts() -> None:
    rules = PairRules(min_visits=3)
    assert [p for p in preference_pairs(PROBLEM, RECORD, rules) if not p.final]  # both have only verdicts below
    deeper = SearchRecord(
        "p",
        (
            NodeRecord(-1, visits=2, value=0),
            NodeRecord(0, text="a", visits=1, value=1),
            NodeRecord(0, text="b", visits=1, value=-1),
            NodeRecord(1, text="c", visits=1, value=1),
            NodeRecord(2, text="d", visits=1, value=-1),
            terminal(3, "correct", True),
            terminal(4, "wrong", False),
        ),
    )
    assert not [p for p in preference_pairs(PROBLEM, deeper, rules) if not p.final]


def test_a_problem_without_wrong_trajectories_gives_no_pairs() -> None:
    all_correct = SearchRecord("p", (NodeRecord(-1), terminal(0, "x", True), terminal(0, "y", True)))
    assert preference_pairs(PROBLEM, all_correct) == []


def test_difficulty_follows_the_share_of_correct_trajectories() -> None:
    assert difficulty(RECORD) is Difficulty.MEDIUM
    assert difficulty(SearchRecord("p", (NodeRecord(-1), terminal(0, "x", True)))) is Difficulty.EASY
    assert difficulty(SearchRecord("p", (NodeRecord(-1), terminal(0, "x", False)))) is Difficulty.HARD
    assert difficulty(SearchRecord("p", (NodeRecord(-1),))) is Difficulty.HARD


def test_the_loss_leaves_out_inserted_outputs() -> None:
    problem = Problem("sum", "Make 18 from four digits.", "18")
    record = asyncio.run(
        solve(
            problem,
            SearchConfig(rollouts=64),
            policy=DigitPolicy(),
            executor=SumExecutor(),
            verifier=SumVerifier(),
            seed=1,
        )
    )
    examples = sft_examples(problem, record)
    assert examples
    for example in examples:
        segments = example.segments()
        assert "".join(text for text, _ in segments) == "".join(example.steps)
        assert [text for text, trained in segments if not trained] == ["\n<output>18<end_of_output>\n"]

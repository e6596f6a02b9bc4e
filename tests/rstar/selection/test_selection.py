"""Selection on small trees, against results worked out by hand."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.search.solve import solve
from rstar.selection import Difficulty, PairRules, SftRules, difficulty, pair_groups, sft_examples
from tests.support.scripted import DigitPolicy, SumExecutor, SumVerifier
from tests.support.whole_pairs import WholePair, whole_pairs

PROBLEM = Problem("p", "question", "1")
Solution = tuple[str, tuple[float, float]]
"""A program, and the Q values of its step and of its answer."""


def preference_pairs(problem: Problem, record: SearchRecord, rules: PairRules | None = None) -> list[WholePair]:
    return whole_pairs(pair_groups(problem, record, rules))


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


def solution(code: str, q: float = 1.0, lowest: float | None = None) -> Solution:
    lowest = q if lowest is None else lowest
    return code, (2 * q - lowest, lowest)


def searched(solutions: Sequence[Solution]) -> SearchRecord:
    """Return a tree with one correct trajectory of two steps for each program."""
    nodes = [NodeRecord(-1)]
    for number, (code, (first, last)) in enumerate(solutions):
        nodes.append(NodeRecord(0, text=f"<code>\n{code}\n<end_of_step>", visits=1, value=first))
        answer = NodeRecord(2 * number + 1, text="x", visits=1, value=last, terminal=True, answer="1", correct=True)
        nodes.append(answer)
    return SearchRecord("p", tuple(nodes))


def picked(solutions: Sequence[Solution], seed: int = 0, count: int = 2) -> list[str]:
    """Return the programs of the SFT examples, in order."""
    rules = SftRules(trajectories_per_problem=count)
    examples = sft_examples(PROBLEM, searched(solutions), rules, seed=seed)
    return [example.steps[0].removeprefix("<code>\n").removesuffix("\n<end_of_step>") for example in examples]


def test_of_equal_means_the_trajectory_with_the_better_weakest_step_comes_first() -> None:
    uneven, even = solution("a = 1", 0.5, lowest=0.1), solution("z = 2", 0.5)
    assert picked([uneven, even]) == ["z = 2", "a = 1"]
    assert picked([uneven, even, solution("b = 3", 0.6, lowest=0.0)], count=1) == ["b = 3"]


def test_of_two_picks_the_second_is_another_program_and_not_the_same_with_another_comment() -> None:
    same = [solution(f"# {words}\nx = 2 + 2") for words in ("add", "add both", "sum them", "two plus two", "twice 2")]
    for seed in range(20):
        first, second = picked([*same, solution("x = 2 * 2")], seed)
        assert (first == "x = 2 * 2") != (second == "x = 2 * 2")
    assert len(picked(same)) == 2


def test_the_program_that_differs_most_is_preferred() -> None:
    start = "a = 1\nb = 2\nc = 3"
    near, far = solution(start.replace("3", "4")), solution("for i in range(3):\n    print(i)")
    chosen = [picked([solution(start), near, far], seed) for seed in range(20)]
    assert all(far[0] in pair for pair in chosen)
    assert {start, near[0]} <= {code for pair in chosen for code in pair}


def test_layout_and_comments_after_code_are_no_difference_but_strings_are() -> None:
    for seed in range(10):
        layouts = [solution("x=2+2"), solution("x = 2 + 2  # 'four'"), solution("\n\nx = 2 +2")]
        assert any("'#4'" in code for code in picked([*layouts, solution("x = '#4'")], seed))
        assert any(
            "'#5'" in code for code in picked([solution("x = '#4'"), solution("x =  '#4'"), solution("x = '#5'")], seed)
        )


def test_ties_are_broken_by_the_seed_and_not_by_the_text() -> None:
    equal = [solution(f"x{number} = {number}") for number in range(4)]
    counts = Counter(code for seed in range(400) for code in picked(equal, seed, count=1))
    assert set(counts) == {code for code, _ in equal}
    assert min(counts.values()) > 60


QUARTERS = st.integers(-4, 4).map(lambda number: number / 4)
SOLUTIONS = st.lists(
    st.tuples(st.sampled_from(["a = 1", "b = 2", "# c\na = 1", "a = 1\nb = 2", "1 +"]), st.tuples(QUARTERS, QUARTERS)),
    max_size=8,
)


@given(SOLUTIONS, st.integers(0, 3), st.integers(1, 5), st.randoms())
def test_the_picks_do_not_depend_on_the_order_of_the_nodes(
    solutions: list[Solution], seed: int, count: int, order: Random
) -> None:
    shuffled = order.sample(solutions, len(solutions))
    assert picked(solutions, seed, count) == picked(shuffled, seed, count)


@given(SOLUTIONS, st.integers(0, 3), st.integers(1, 5))
def test_no_trajectory_that_is_left_out_is_better_than_one_that_is_picked(
    solutions: list[Solution], seed: int, count: int
) -> None:
    ranks: dict[str, tuple[float, float]] = {}
    for code, qs in solutions:
        ranks[code] = max(ranks.get(code, (-2.0, -2.0)), (sum(qs) / 2, min(qs)))
    picks = picked(solutions, seed, count)
    assert len(picks) == min(count, len(ranks)) == len(set(picks))
    assert [ranks[code] for code in picks] == sorted(ranks.values(), reverse=True)[: len(picks)]


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


def test_a_group_holds_what_its_pairs_share_once_and_only_the_sides_that_a_pair_needs() -> None:
    record = SearchRecord(
        "p",
        (
            NodeRecord(-1, visits=4, value=0),
            NodeRecord(0, text="a", visits=4, value=0),
            terminal(1, "right", True),
            terminal(1, "also right", True),
            terminal(1, "wrong", False),
            NodeRecord(0, text="b", visits=1, value=0, terminal=True, answer="?", correct=False),
        ),
    )
    inner, whole = pair_groups(PROBLEM, record, PairRules(min_margin=0.6))
    assert (inner.prefix, inner.pairs) == (("a",), ((0, 0), (1, 0)))
    assert [side.steps for side in (*inner.right, *inner.wrong)] == [("right",), ("also right",), ("wrong",)]
    # The mean Q of "b" is too near, and the trajectories that are left begin with the same step.
    assert (whole.prefix, len(whole.wrong), whole.weight) == (("a",), 1, 0.5)


def test_the_final_answer_rule_takes_as_many_trajectories_as_asked() -> None:
    assert sum(p.final for p in preference_pairs(PROBLEM, RECORD, PairRules(final_trajectories=1))) == 1
    assert not any(p.final for p in preference_pairs(PROBLEM, RECORD, PairRules(final_trajectories=0)))


def test_pairs_of_answers_are_final_also_when_they_share_their_prefix() -> None:
    record = SearchRecord(
        "p",
        (
            NodeRecord(-1, visits=4, value=0),
            terminal(0, "right", True),
            terminal(0, "wrong", False),
            NodeRecord(0, text="good", visits=2, value=2),
            NodeRecord(0, text="bad", visits=2, value=-2),
            terminal(3, "good right", True),
            terminal(4, "bad wrong", False),
        ),
    )
    pairs = preference_pairs(PROBLEM, record, PairRules(final_trajectories=0))
    assert {(p.chosen[-1], p.rejected[-1]): p.final for p in pairs} == {
        ("right", "wrong"): True,
        ("right", "bad"): True,
        ("good", "wrong"): True,
        ("good", "bad"): False,
    }


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

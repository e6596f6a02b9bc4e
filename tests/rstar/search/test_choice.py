"""The answer of a search: each trajectory's best, then the best of those or a vote, on trees written by hand."""

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rstar.config import SearchConfig
from rstar.record import NodeRecord
from rstar.search.choice import MAX_COMPARISONS, choose, group_answers, votes


def terminal(answer: str, score: float | None = None, tree: int = 0, visits: int = 1) -> NodeRecord:
    return NodeRecord(parent=-1, tree=tree, score=score, terminal=True, answer=answer, visits=visits)


async def equal_numbers(first: str, second: str) -> bool:
    return Fraction(first) == Fraction(second)


def answer_of(rows: list[NodeRecord], config: SearchConfig, same=equal_numbers) -> str | None:
    groups = asyncio.run(group_answers([row.answer or "" for row in rows], same)) if votes(rows, config) else {}
    position = choose(rows, config, groups)
    return rows[position].answer if position >= 0 else None


NEAR_DUPLICATES = [terminal("9", 0.9 - i / 100, tree=0) for i in range(8)]
RIGHT = [terminal("5", 0.5, tree=tree) for tree in (1, 2, 3)]


def test_near_duplicates_of_one_tree_do_not_outvote_three_trees() -> None:
    rows = NEAR_DUPLICATES + RIGHT
    assert answer_of(rows, SearchConfig(trajectories=4, vote_top=4)) == "5"
    assert answer_of(rows, SearchConfig(trajectories=4)) == "9"


def test_only_the_trajectories_with_the_highest_scores_vote() -> None:
    rows = [
        terminal("1", 0.9, 0),
        terminal("2", 0.8, 1),
        terminal("2", 0.7, 2),
        *(terminal("3", 0.1, t) for t in range(3, 9)),
    ]
    assert answer_of(rows, SearchConfig(trajectories=9, vote_top=3)) == "2"
    assert answer_of(rows, SearchConfig(trajectories=9, vote_top=9)) == "3"


def test_equal_answers_are_one_in_a_vote() -> None:
    rows = [
        terminal("2", 0.9, 0),
        terminal("2", 0.8, 1),
        *(terminal(a, 0.5, t) for t, a in enumerate(("1/2", "0.5", "2/4"), 2)),
    ]
    config = SearchConfig(trajectories=5, vote_top=5)
    assert answer_of(rows, config) == "1/2"
    assert answer_of(rows, config, None) == "2"


def test_without_scores_each_tree_gives_its_most_visited_answer_and_the_trees_vote() -> None:
    rows = [terminal("9", tree=0, visits=50), terminal("5", tree=1), terminal("5", tree=2), terminal("8", tree=2)]
    assert answer_of(rows, SearchConfig(trajectories=3)) == "5"


def test_identical_samples_vote_as_often_as_they_were_drawn() -> None:
    rows = [terminal("1", 0.9), terminal("2", 0.8, visits=3), terminal("3", 0.7, visits=9)]
    assert answer_of(rows, SearchConfig(method="best_of_n")) == "1"
    assert answer_of(rows, SearchConfig(method="best_of_n", vote_top=3)) == "2"
    assert answer_of(rows, SearchConfig(method="majority")) == "3"


def test_an_equal_number_of_votes_is_decided_by_the_highest_score() -> None:
    assert answer_of([terminal("1", 0.2, 0), terminal("2", 0.4, 1)], SearchConfig(trajectories=2, vote_top=2)) == "2"


def test_no_answer_is_chosen_where_no_trajectory_has_one() -> None:
    assert choose([NodeRecord(parent=-1)], SearchConfig(), {}) == -1


@pytest.mark.parametrize("method", ["mcts", "beam"])
def test_more_votes_than_trajectories_are_refused(method: str) -> None:
    with pytest.raises(ValidationError, match="voteTop 4 is more than trajectories 2"):
        SearchConfig(method=method, trajectories=2, vote_top=4)


@given(st.lists(st.fractions(max_denominator=5).map(str), max_size=12))
def test_groups_are_those_of_the_equivalence(answers: list[str]) -> None:
    groups = asyncio.run(group_answers(answers, equal_numbers))
    for first in answers:
        for second in answers:
            assert (groups[first] == groups[second]) == (Fraction(first) == Fraction(second))


async def test_the_number_of_comparisons_is_bounded() -> None:
    compared = 0

    async def same(first: str, second: str) -> bool:
        nonlocal compared
        compared += 1
        return False

    groups = await group_answers([str(i) for i in range(500)], same)
    assert compared == MAX_COMPARISONS
    assert len(set(groups.values())) == 500

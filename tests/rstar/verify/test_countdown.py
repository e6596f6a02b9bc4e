"""The rules of the game and its verifier: only a solution is correct."""

import re
from collections.abc import Sequence
from itertools import combinations_with_replacement

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rstar.countdown import Value, after, make_games, moves, question, solution, solvable, split_games
from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify import verifier
from rstar.verify.countdown import CountdownVerifier

games = st.lists(st.integers(0, 13), min_size=2, max_size=5).map(sorted)


async def verdict_on(answer: str, nums: Sequence[int] = (8, 2, 6), target: int = 24) -> Verdict:
    return await CountdownVerifier().verify(Problem("p", "q", data={"nums": list(nums), "target": target}), answer)


def expression(nums: Sequence[int], target: int) -> str:
    """Return a solution as one expression: every intermediate value is replaced by its operation."""
    texts: list[tuple[Value, str]] = [(n, str(n)) for n in nums]
    for a, op, b, result in solution(nums, target, integers_only=False) or []:
        left = texts.pop(next(i for i, (value, _) in enumerate(texts) if value == a))[1]
        right = texts.pop(next(i for i, (value, _) in enumerate(texts) if value == b))[1]
        texts.append((result, f"({left} {op} {right})"))
    return texts[0][1]


def equations(nums: Sequence[int], target: int) -> str:
    return "\n".join(map(str, solution(nums, target) or []))


def test_the_question_has_a_comma_after_every_number() -> None:
    assert question((8, 2, 6, 4), 24) == "Make 24 from 8, 2, 6, 4, using each number once and + - * /."


def test_1362_classic_sets_are_solvable_and_1346_of_them_by_integer_play() -> None:
    sets = list(combinations_with_replacement(range(1, 14), 4))
    assert sum(solvable(nums, 24, integers_only=False) for nums in sets) == 1362
    assert sum(solvable(nums, 24) for nums in sets) == 1346


@given(games, st.integers(0, 60))
async def test_a_found_solution_is_correct_as_equations_and_as_an_expression(nums: list[int], target: int) -> None:
    assume(solvable(nums, target, integers_only=False))
    assert (await verdict_on(expression(nums, target), nums, target)).correct
    assert (await verdict_on(f"{expression(nums, target)} = {target}", nums, target)).correct
    if solvable(nums, target):
        assert (await verdict_on(equations(nums, target), nums, target)).correct


@given(games, st.data())
async def test_a_solution_with_another_number_is_wrong(nums: list[int], data: st.DataObject) -> None:
    assume(solvable(nums, 24, integers_only=False))
    text = expression(nums, 24)
    found = data.draw(st.sampled_from(list(re.finditer(r"\d+", text))))
    assert not (await verdict_on(f"{text[: found.start()]}{int(found.group()) + 1}{text[found.end() :]}", nums)).correct


@given(games, st.data())
async def test_a_number_used_twice_or_not_at_all_is_wrong(nums: list[int], data: st.DataObject) -> None:
    assume(solvable(nums, 24, integers_only=False))
    text, extra = expression(nums, 24), data.draw(st.sampled_from(nums))
    assert not (await verdict_on(f"{text} + {extra} - {extra}", nums)).correct
    assert not (await verdict_on(f"{text} * {extra} / {max(extra, 1)}", nums)).correct
    assert not (await verdict_on(text, [*nums, extra])).correct


@pytest.mark.parametrize(
    ("answer", "nums"),
    [
        ("6 * 8 / 2 = 24", (8, 2, 6)),
        ("8 / 2 = 4; 4 * 6 = 24", (8, 2, 6)),
        ("8 / 2 = 4.0, 4.0 * 6 = 24.0", (8, 2, 6)),
        ("8/2=4\n\n6*4=24\n", (2, 6, 8)),
        (r"\frac{8}{2} \times 6", (8, 2, 6)),
        (r"6 \cdot \left(8 \div 2\right) = 24", (8, 2, 6)),
        (r"\dfrac{\frac{48}{2}}{1}", (1, 2, 48)),
        (r"8 - 2 = 6 \\ 6 \times 4 = 24", (8, 2, 4)),
        ("(8 − 2) × 4", (8, 2, 4)),
        ("8 / (3 - 8/3)", (8, 3, 8, 3)),
        ("2 - 5 = -3; 27 + -3 = 24", (2, 5, 27)),
        ("1 / 5 = 0.2; 121 / 5 = 24.2; 24.2 - 0.2 = 24", (1, 5, 121, 5)),
        ("24", (24,)),
    ],
)
async def test_all_these_notations_of_a_solution_are_read(answer: str, nums: tuple[int, ...]) -> None:
    assert await verdict_on(answer, nums) == Verdict(True, "reaches 24 with every number used once")


@pytest.mark.parametrize(
    ("answer", "nums", "reason"),
    [
        ("24", (8, 2, 6), "24 in '24' is not among the numbers left"),
        ("24", (24, 1, 1), "'24' shows no operation"),
        ("24 = 24", (8, 2, 6), "24 in '24' is not among the numbers left"),
        ("", (8, 2, 6), "the answer is empty"),
        ("8 * 2 + 6", (8, 2, 6), "the result is 22, not 24"),
        ("8 * 2 + 6 = 24", (8, 2, 6), "'8 * 2 + 6' is 22, not 24"),
        ("8 * 2 = 16; 16 + 6 = 24", (8, 2, 6), "'16 + 6' is 22, not 24"),
        ("4 * 6 = 24", (4, 6, 1), "not every number is used: 1, 24 are left"),
        ("8 / 2 = 4; 8 * 3 = 24", (8, 2, 6), "8 in '8 * 3' is not among the numbers left"),
        ("8 / 2 = 4; 4 * 6", (8, 2, 6), "'4 * 6' is not one equation"),
        ("8 / 2 = 4 = 4", (8, 2, 6), "'8 / 2 = 4 = 4' is not one equation"),
        ("8 / 2 = 1 + 3", (8, 2, 6), "'1 + 3' is not a number"),
        ("24 / (1 - 1)", (24, 1, 1), "'24 / (1 - 1)' divides by zero"),
        ("8 ** 2 - 6", (8, 2, 6), "'**' in '8 ** 2 - 6' is not allowed"),
        ("8^2", (8, 2, 6), "'^' in '8^2' is not allowed"),
        ("8 // 2 * 6", (8, 2, 6), "'//' in '8 // 2 * 6' is not allowed"),
        ("__import__('os')", (8, 2, 6), "is not allowed"),
        ("-8 + 26 + 6", (8, 26, 6), "-8 in '-8 + 26 + 6' is not among the numbers left"),
        ("6(4)", (6, 4), "'6(4)' is not a number"),
        ("6 * * 4)", (6, 4), "is not allowed"),
        ("6 * 4)", (6, 4), "'6 * 4)' is not an expression"),
        ("()", (6, 4), "'()' is not a number"),
    ],
)
async def test_other_answers_are_wrong_with_a_reason_of_one_line(
    answer: str, nums: tuple[int, ...], reason: str
) -> None:
    verdict = await verdict_on(answer, nums)
    assert not verdict.correct
    assert reason in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    "answer",
    ["9**9**9**9", "9" * 900, "9" * 900 + ".0", "1+" * 499 + "1", "-" * 999 + "1", "(" * 499 + "1" + ")" * 499, "8 * " * 10**6,
     r"\frac{1}" * 120, "{" * 999, "\x00", "\ud800", "٣ + ٤"],
)  # fmt: skip
async def test_hostile_answers_are_wrong_at_once(answer: str) -> None:
    verdict = await verdict_on(answer)
    assert not verdict.correct
    assert len(verdict.reason) < 200


@given(st.text(alphabet="0123456789+-*/()=;,. {}\\\nfrac", max_size=60))
async def test_no_text_makes_the_verifier_raise(text: str) -> None:
    assert not (await verdict_on(text, (7, 7, 7, 7, 7))).correct


@pytest.mark.parametrize("data", [{}, {"nums": [1, 2]}, {"nums": "12", "target": 24}, {"nums": [1.5], "target": 24}])
async def test_a_problem_without_numbers_is_a_wrong_answer_with_that_reason(data: dict[str, object]) -> None:
    verdict = await verifier("countdown").verify(Problem("p", "q", "24", data), "24")
    assert verdict == Verdict(False, "the problem's data has no integers nums and target")


@given(games)
def test_moves_are_canonical_and_distinct_and_lose_one_number(nums: list[int]) -> None:
    found = moves(nums)
    assert len(set(found)) == len(found)
    for move in found:
        assert move.a >= move.b
        assert isinstance(move.result, int)
        assert move.result >= 0
        assert len(after(nums, move)) == len(nums) - 1


def test_games_are_drawn_by_the_seed_sorted_solvable_and_within_bounds() -> None:
    counts = {3: 20, 4: 280, 5: 800}
    first = make_games(counts, seed=1)
    assert first == make_games(counts, seed=1) != make_games(counts, seed=2)
    assert [sum(len(game) == size for game in first) for size in (3, 4, 5)] == [20, 280, 800]
    assert len(set(first)) == 1100
    for game in first:
        assert list(game) == sorted(game)
        assert set(game) <= set(range(1, 11))
        assert all(0 <= move.result <= 60 for move in solution(game, 24, max_value=60) or pytest.fail("unsolvable"))


def test_a_split_shares_no_game_and_keeps_the_held_out_games_when_other_sizes_change() -> None:
    split = split_games(train={3: 20, 4: 280, 5: 800}, validation={4: 50, 5: 50}, held_out={4: 100, 5: 100}, seed=0)
    assert len({*split.train, *split.validation, *split.held_out}) == 1100 + 100 + 200
    other = split_games(train={4: 5}, validation={4: 1}, held_out={4: 100, 5: 100}, seed=0)
    assert other.held_out == split.held_out


def test_too_many_games_and_too_many_sets_are_errors_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="only 59 games of 3 numbers can be drawn, not 1000: ask for fewer"):
        make_games({3: 1000}, seed=0)
    with pytest.raises(ValueError, match="give a narrower range of numbers"):
        make_games({6: 1}, seed=0, numbers=range(1, 101))

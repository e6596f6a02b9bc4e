"""The rules of Countdown and of the Game of 24: combine given numbers with + - * / into a target.

Pure functions over tuples of integers, for the reader, the verifier and the example. *Integer play* is the example's
game: every division is exact and no value is negative.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from math import comb
from random import Random
from typing import Literal, NamedTuple, TypeAlias

Value: TypeAlias = int | Fraction
Numbers: TypeAlias = tuple[int, ...]
Operator: TypeAlias = Literal["+", "-", "*", "/"]

DEFAULT_NUMBERS = range(1, 11)
MOST_SETS = 2_000_000
"""``make_games`` enumerates at most so many multisets: more would fill the memory."""


class Move(NamedTuple):
    """One move: ``a op b = result``, and a >= b in integer play."""

    a: Value
    op: Operator
    b: Value
    result: Value

    def __str__(self) -> str:
        return f"{self.a} {self.op} {self.b} = {self.result}"


def question(nums: Sequence[int], target: int) -> str:
    """Return the text of a game.

    A comma and a space follow every number, also the last, so that a small tokenizer can have one token per number.
    """
    return f"Make {target} from {''.join(f'{n}, ' for n in nums)}using each number once and + - * /."


def moves(nums: Sequence[Value], *, integers_only: bool = True) -> list[Move]:
    """Return every distinct move on ``nums``, in a fixed order.

    Moves are canonical: a >= b, so sums, products and differences appear once and no result is negative. In integer
    play a division must be exact; otherwise both a / b and b / a are moves. Negative values are never needed: the
    same operations on magnitudes reach every target >= 0.
    """
    pairs = dict.fromkeys((max(x, y), min(x, y)) for x, y in combinations(nums, 2))
    return [move for a, b in pairs for move in _pair_moves(a, b, integers_only)]


def after(nums: Sequence[Value], move: Move) -> tuple[Value, ...]:
    """Return the numbers after ``move``, sorted. Raises ``ValueError`` when ``nums`` lack a number of the move."""
    left = list(nums)
    left.remove(move.a)
    left.remove(move.b)
    left.append(move.result)
    return tuple(sorted(left))


def solution(
    nums: Sequence[Value], target: int, *, integers_only: bool = True, max_value: int | None = None
) -> list[Move] | None:
    """Return moves that turn ``nums`` into ``target``, or None. The same numbers always give the same moves.

    With ``max_value`` no intermediate value exceeds it.
    """
    state: tuple[Value, ...] = tuple(sorted(nums))
    if not state or not _reaches(state, target, integers_only, max_value):
        return None
    found = []
    while len(state) > 1:
        move, state = next(
            (move, left)
            for move in moves(state, integers_only=integers_only)
            if (max_value is None or move.result <= max_value)
            and _reaches(left := after(state, move), target, integers_only, max_value)
        )
        found.append(move)
    return found


def solvable(nums: Sequence[Value], target: int, integers_only: bool = True, *, max_value: int | None = None) -> bool:
    """Return whether ``nums`` can be combined into ``target`` (with values up to ``max_value``, if given)."""
    return bool(nums) and _reaches(tuple(sorted(nums)), target, integers_only, max_value)


def make_games(
    counts: Mapping[int, int],
    *,
    seed: int,
    numbers: Iterable[int] = DEFAULT_NUMBERS,
    target: int = 24,
    max_value: int = 60,
    exclude: Collection[Numbers] = frozenset(),
) -> list[Numbers]:
    """Draw games that integer play solves with values up to ``max_value``; ``counts`` is games by number of numbers.

    Games are sorted tuples, distinct as multisets and not in ``exclude``. The seed determines the games and their
    order; smaller games come first. Raises ``ValueError`` when there are not enough.
    """
    pool = sorted(set(numbers))
    taken = {tuple(sorted(game)) for game in exclude}
    games: list[Numbers] = []
    for size, count in sorted(counts.items()):
        if (sets := comb(len(pool) + size - 1, size) if size > 0 else 0) > MOST_SETS:
            raise ValueError(
                f"{sets:,} sets of {size} numbers are too many to draw from: give a narrower range of numbers"
            )
        order = list(combinations_with_replacement(pool, size)) if size > 0 else []
        Random(f"{seed}:{size}").shuffle(order)
        drawn: list[Numbers] = []
        for game in order:
            if len(drawn) == count:
                break
            if game not in taken and solvable(game, target, max_value=max_value):
                drawn.append(game)
        if len(drawn) < count:
            raise ValueError(
                f"only {len(drawn)} games of {size} numbers can be drawn, not {count}: "
                "ask for fewer, widen the range of numbers or raise max_value"
            )
        games += drawn
    return games


@dataclass(frozen=True, slots=True)
class GameSplit:
    """Three lists of games without a common multiset of numbers."""

    train: list[Numbers]
    validation: list[Numbers]
    held_out: list[Numbers]


def split_games(
    *,
    train: Mapping[int, int],
    validation: Mapping[int, int],
    held_out: Mapping[int, int],
    seed: int,
    numbers: Iterable[int] = DEFAULT_NUMBERS,
    target: int = 24,
    max_value: int = 60,
) -> GameSplit:
    """Draw three lists without a common game, each with ``counts`` as in ``make_games``.

    The held-out games are drawn first, then validation: they do not depend on the sizes of the later lists, so that
    results stay comparable.
    """
    pool = tuple(numbers)

    def draw(counts: Mapping[int, int], *others: list[Numbers]) -> list[Numbers]:
        exclude = {game for games in others for game in games}
        return make_games(counts, seed=seed, numbers=pool, target=target, max_value=max_value, exclude=exclude)

    test = draw(held_out)
    tuning = draw(validation, test)
    return GameSplit(draw(train, test, tuning), tuning, test)


def _pair_moves(a: Value, b: Value, integers_only: bool) -> list[Move]:
    """Return the moves of one pair with a >= b."""
    found = [Move(a, "+", b, a + b), Move(a, "-", b, a - b), Move(a, "*", b, a * b)]
    if integers_only:
        if b != 0 and a % b == 0:
            found.append(Move(a, "/", b, a // b))
        return found
    if b != 0:
        found.append(Move(a, "/", b, Fraction(a) / b))
    if a not in (b, 0):
        found.append(Move(b, "/", a, Fraction(b) / a))
    return found


@lru_cache(maxsize=1 << 20)
def _reaches(state: tuple[Value, ...], target: int, integers_only: bool, max_value: int | None) -> bool:
    """Return whether the sorted ``state`` reaches ``target``; cached, because games share states."""
    if len(state) == 1:
        return state[0] == target
    seen = set()
    for i in range(1, len(state)):
        for j in range(i):
            a, b = state[i], state[j]
            if (a, b) in seen:
                continue
            seen.add((a, b))
            rest = state[:j] + state[j + 1 : i] + state[i + 1 :]
            for _, _, _, result in _pair_moves(a, b, integers_only):
                if max_value is not None and result > max_value:
                    continue
                if not rest:
                    if result == target:
                        return True
                elif _reaches(tuple(sorted((*rest, result))), target, integers_only, max_value):
                    return True
    return False

"""Demonstrations for the base model: mostly random legal plays, in the trajectory grammar.

They teach the rules (the numbers left, the result of a move) and little about winning: most plays do not end at 24.
Games that are excluded for validation or testing are never demonstrated.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence

from tokenizer import MAX_VALUE, move_phrase

from rstar.countdown import Move, Numbers, moves, solvable
from rstar.trajectory import CODE, END_OF_CODE, END_OF_STEP

TARGET = 24


def render_play(numbers: Numbers, played: list[Move]) -> tuple[str, ...]:
    """Write a play as the steps of a trajectory: each makes a move and asserts the numbers left after it.

    The assertion checks the model: a step with wrong arithmetic or wrong numbers fails.
    """
    steps = []
    left = numbers
    for i, move in enumerate(played):
        start = f"{CODE}\nn = [{listed(left)}]\n" if i == 0 else "\n"
        left = after(left, move)
        end = END_OF_CODE if i == len(played) - 1 else END_OF_STEP
        steps.append(f"{start}a, b = {listed((move.a, move.b))}{move_phrase(move.op)}{listed(left)}]\n{end}")
    return tuple(steps)


def listed(numbers: Sequence[object]) -> str:
    """Write numbers in the form of the tokenizer's tokens: each with a comma and a space."""
    return "".join(f"{number}, " for number in numbers)


def after(numbers: Numbers, move: Move) -> Numbers:
    """Return the program's list after ``move``: the result first, the other numbers in their order."""
    left = list(numbers)
    left.remove(int(move.a))
    left.remove(int(move.b))
    return (int(move.result), *left)


def random_plays(
    count: int, seed: int, sizes: Sequence[int], highest: int, skill: float, excluded: Collection[Numbers]
) -> Iterator[tuple[Numbers, list[Move]]]:
    """Yield ``count`` plays of random sets of numbers 1..highest.

    In a share ``skill`` of them no move makes 24 unreachable that was reachable. ``excluded`` holds sorted sets.
    """
    draw = random.Random(seed)
    while count:
        numbers = tuple(draw.randint(1, highest) for _ in range(draw.choice(sizes)))
        if tuple(sorted(numbers)) in excluded:
            continue
        played = _play_out(numbers, draw, careful=draw.random() < skill)
        if played is not None:
            count -= 1
            yield numbers, played


def _play_out(numbers: Numbers, draw: random.Random, *, careful: bool) -> list[Move] | None:
    """Play to the end; None when every move leaves the tokenizer's range."""
    played: list[Move] = []
    while len(numbers) > 1:
        options = [move for move in moves(numbers) if move.result <= MAX_VALUE]
        if careful:
            options = [m for m in options if solvable(after(numbers, m), TARGET, max_value=MAX_VALUE)] or options
        if not options:
            return None
        played.append(draw.choice(options))
        numbers = after(numbers, played[-1])
    return played

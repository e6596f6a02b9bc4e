"""Sets of real numbers: intervals, unions and inequalities in one variable, in one normal form.

An end is a pair (value, offset). ``[a, b]`` is from (a, 0) up to and without (b, 1); an open end has the other offset.
So every interval is half-open in the order of these pairs, and union, intersection and complement are those of
half-open intervals.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath

from rstar.verify.equality.evaluate import NoValueError, approximate, exact, symbols
from rstar.verify.equality.expressions import is_infinite
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Collection,
    Interval,
    Number,
    Relation,
    SetOperation,
    Symbol,
    UnreadableError,
    negative,
)

End = tuple[Any, int]
RealSet = tuple[tuple[End, End], ...]

_CONTEXT = mpmath.mp.clone()
_CONTEXT.dps = 60
_LOWEST: End = (-_CONTEXT.inf, 1)
_HIGHEST: End = (_CONTEXT.inf, 0)
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
MAX_PARTS = 50


def real_set(answer: Answer) -> tuple[RealSet, str]:
    """Return the set and the name of its variable, empty for none. Raises ``UnreadableError`` for anything else."""
    match answer:
        case Interval(low, high, low_closed, high_closed):
            return _interval(low, high, low_closed, high_closed), ""
        case Collection(("tuple" | "square") as kind, (low, high)):
            return _interval(low, high, kind == "square", kind == "square"), ""
        case Collection("set", items):
            return union(*(_interval(item, item, True, True) for item in items)), ""
        case SetOperation(name, parts):
            return _combined(name, parts)
        case Relation():
            return _solved(answer)
    raise UnreadableError("not a set of real numbers")


def _combined(name: str, parts: tuple[Answer, ...]) -> tuple[RealSet, str]:
    if len(parts) > MAX_PARTS:
        raise UnreadableError("the set has too many parts")
    read = [real_set(part) for part in parts]
    names = {variable for _, variable in read if variable}
    if len(names) > 1:
        raise UnreadableError("a set with several variables")
    sets = [found for found, _ in read]
    variable = names.pop() if names else ""
    if name == "union":
        return union(*sets), variable
    result = sets[0]
    for other in sets[1:]:
        result = intersection(result, other if name == "intersection" else complement(other))
    return result, variable


def _solved(relation: Relation) -> tuple[RealSet, str]:
    names = frozenset().union(*(symbols(side) for side in relation.sides if not _is_collection(side)))
    if len(names) != 1:
        raise UnreadableError("a relation of several variables")
    (name,) = names
    result: RealSet = ((_LOWEST, _HIGHEST),)
    for left, sign, right in zip(relation.sides, relation.signs, relation.sides[1:], strict=False):
        result = intersection(result, _half_line(left, sign, right, name))
    return result, name


def _is_collection(side: Answer) -> bool:
    return isinstance(side, Interval | SetOperation | Collection | Relation)


def _half_line(left: Answer, sign: str, right: Answer, name: str) -> RealSet:
    variable = Symbol(name)
    if sign == "in" and left == variable:
        return real_set(right)[0]
    if sign in _FLIPPED:
        if right == variable or (isinstance(right, Apply) and right.name == "abs"):
            left, sign, right = right, _FLIPPED[sign], left
        if isinstance(left, Apply) and left.name == "abs" and name not in symbols(right) and sign != "!=":
            inner = left.arguments[0]
            sides = _half_line(inner, sign, right, name), _half_line(negative(right), sign, inner, name)
            if sign in {">", ">="}:
                return union(
                    _half_line(inner, sign, right, name), _half_line(inner, _FLIPPED[sign], negative(right), name)
                )
            return intersection(*sides)
        if left != variable or name in symbols(right):
            sign, right = _linear(left, sign, right, name)
        if sign in {"<", "<="}:
            return _interval(negative(Symbol("infinity")), right, False, sign == "<=")
        if sign in {">", ">="}:
            return _interval(right, Symbol("infinity"), sign == ">=", False)
        return complement(_interval(right, right, True, True))
    raise UnreadableError("a relation that is not solved")


def _linear(left: Answer, sign: str, right: Answer, name: str) -> tuple[str, Answer]:
    """Return the sign and the bound of ``a x + b < c x + d`` with rational coefficients."""
    values = []
    for point in (0, 1, 2, Fraction(-7, 3)):
        sides = [exact(substituted(side, name, Number(Fraction(point)))) for side in (left, right)]
        if sides[0] is None or sides[1] is None:
            raise UnreadableError("an inequality that is not linear")
        values.append(sides[0] - sides[1])
    slope = values[1] - values[0]
    if slope == 0 or values[2] - values[1] != slope or values[3] - values[0] != slope * Fraction(-7, 3):
        raise UnreadableError("an inequality that is not linear")
    return (sign if slope > 0 else _FLIPPED[sign]), Number(-values[0] / slope)


def substituted(node: Answer, name: str, value: Answer) -> Answer:
    """Return an expression with ``value`` in place of a variable."""
    match node:
        case Symbol(own) if own == name:
            return value
        case Apply(own, arguments):
            return Apply(own, tuple(substituted(a, name, value) for a in arguments))
    return node


def _interval(low: Answer, high: Answer, low_closed: bool, high_closed: bool) -> RealSet:
    start = (_value(low), 0 if low_closed and not is_infinite(low) else 1)
    end = (_value(high), 1 if high_closed and not is_infinite(high) else 0)
    return ((start, end),) if start < end else ()


def _value(node: Answer) -> Any:
    if sign := is_infinite(node):
        return _CONTEXT.inf * sign
    if symbols(node):
        raise UnreadableError("an end with a variable")
    try:
        value = approximate(node, {}, _CONTEXT, 0)
    except NoValueError as error:
        raise UnreadableError("an end without a value") from error
    if _CONTEXT.im(value) != 0:
        raise UnreadableError("an end that is not real")
    return _CONTEXT.re(value)


def union(*sets: RealSet) -> RealSet:
    """Return the union, its parts in order and apart."""
    merged: list[tuple[End, End]] = []
    for start, end in sorted(part for one in sets for part in one):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def complement(one: RealSet) -> RealSet:
    """Return the real numbers that are not in ``one``."""
    parts = []
    at = _LOWEST
    for start, end in union(one):
        if at < start:
            parts.append((at, start))
        at = max(at, end)
    if at < _HIGHEST:
        parts.append((at, _HIGHEST))
    return tuple(parts)


def intersection(a: RealSet, b: RealSet) -> RealSet:
    """Return the numbers in both."""
    parts = [(max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b]
    return union(tuple((start, end) for start, end in parts if start < end))


def same_set(a: RealSet, b: RealSet) -> bool:
    """Return whether two sets in normal form are equal to 40 digits."""
    return len(a) == len(b) and all(
        _same_end(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )


def _same_end(a: End, b: End) -> bool:
    if a[1] != b[1]:
        return False
    if _CONTEXT.isinf(a[0]) or _CONTEXT.isinf(b[0]):
        return bool(a[0] == b[0])
    return bool(abs(a[0] - b[0]) <= _CONTEXT.mpf(10) ** -40 * max(abs(a[0]), abs(b[0])))

"""Judges two texts: whether some reading of one equals some reading of the other, and in which sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rstar.verify.equality.evaluate import symbols
from rstar.verify.equality.expressions import proportional, rounds_to, same_expression
from rstar.verify.equality.kinds import kind
from rstar.verify.equality.naming import assigned, is_application
from rstar.verify.equality.percentages import is_percent, same_percent
from rstar.verify.equality.read import readings
from rstar.verify.equality.real_sets import real_set, same_set
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Based,
    Collection,
    Dots,
    Interval,
    Matrix,
    Number,
    Quantity,
    Relation,
    SetOperation,
    Symbol,
    UnreadableError,
    Words,
    negative,
)

MAX_ITEMS = 100
_REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!=", "=": "="}


def compare(reference: str, answer: str) -> tuple[bool, str]:
    """Return whether two normalised texts are equal, and the kinds of what was compared."""
    golds, given = readings(reference), readings(answer)
    failure = ""
    for gold in golds:
        for found in given:
            try:
                if same(gold, found):
                    return True, f"equal as {kind(found)}"
            except UnreadableError as error:
                failure = str(error)
    expected, found_kind = kind(golds[0]), kind(given[0])
    same_kind = expected == found_kind
    reason = f"not equal as {expected}" if same_kind else f"{found_kind}, where the reference is {expected}"
    return False, f"{reason}: {failure}" if failure else reason


def same(gold: Answer, given: Answer) -> bool:
    """Return whether ``given`` equals ``gold``. Raises ``UnreadableError`` where that cannot be decided."""
    if gold == given:
        return True
    if isinstance(gold, Quantity) or isinstance(given, Quantity):
        return _same_quantity(gold, given)
    if isinstance(gold, Relation) or isinstance(given, Relation):
        return _same_relation(gold, given)
    if isinstance(gold, Based) or isinstance(given, Based):
        return _same_based(gold, given)
    if isinstance(gold, Matrix) or isinstance(given, Matrix):
        return _same_matrix(gold, given)
    if isinstance(gold, Interval | SetOperation) or isinstance(given, Interval | SetOperation):
        return _same_reals(gold, given)
    if isinstance(gold, Collection) or isinstance(given, Collection):
        return _same_collection(gold, given)
    if isinstance(gold, Words | Dots) or isinstance(given, Words | Dots):
        return False
    if is_percent(gold) or is_percent(given):
        return same_percent(gold, given)
    return same_expression(gold, given)


def _same_quantity(gold: Answer, given: Answer) -> bool:
    units = {item.unit for item in (gold, given) if isinstance(item, Quantity)} - {""}
    bare = [item.value if isinstance(item, Quantity) else item for item in (gold, given)]
    if len(units) > 1 or any(isinstance(item, Words) for item in bare):
        return False
    return same(bare[0], bare[1])


def _same_based(gold: Answer, given: Answer) -> bool:
    match gold, given:
        case (Based(digits, _), Number(value, 0)) | (Number(value, 0), Based(digits, _)):
            return digits == str(value)
    return False


def _same_matrix(gold: Answer, given: Answer) -> bool:
    if not (isinstance(gold, Matrix) and isinstance(given, Matrix)):
        return False
    return len(gold.rows) == len(given.rows) and all(
        _same_in_order(x, y) for x, y in zip(gold.rows, given.rows, strict=True)
    )


def _same_in_order(gold: Sequence[Answer], given: Sequence[Answer]) -> bool:
    return len(gold) == len(given) and all(same(x, y) for x, y in zip(gold, given, strict=True))


def _same_in_any_order(
    gold: Sequence[Answer], given: Sequence[Answer], equal: Callable[[Answer, Answer], bool]
) -> bool:
    if len(gold) != len(given):
        return False
    if len(gold) > MAX_ITEMS:
        raise UnreadableError("the list is too long")
    left = list(given)
    for item in gold:
        for i, other in enumerate(left):
            if equal(item, other):
                del left[i]
                break
        else:
            return False
    return True


# Collections


def _same_collection(gold: Answer, given: Answer) -> bool:
    if not (isinstance(gold, Collection) and isinstance(given, Collection)):
        return _one_of_one(gold, given)
    kinds = {gold.kind, given.kind}
    if Dots() in gold.items or Dots() in given.items:
        return len(kinds - {"bare"}) <= 1 and _same_in_order(gold.items, given.items)
    if gold.kind == given.kind:
        if gold.kind in {"tuple", "ratio", "time", "square"}:
            return _same_in_order(gold.items, given.items)
        return _same_listing(gold.items, given.items)
    if kinds == {"bare", "set"}:
        return _same_listing(gold.items, given.items)
    if kinds == {"tuple", "square"}:
        # A pair in parentheses is an open interval or a point, never the closed interval.
        return len(gold.items) != 2 and _same_in_order(gold.items, given.items)
    if kinds in ({"square", "bare"}, {"square", "set"}):
        # Two numbers in brackets are an interval, except in an answer to a list, where Python prints them so.
        listed = len(gold.items) != 2 or (given.kind, gold.kind) == ("square", "bare")
        return listed and _same_listing(gold.items, given.items)
    return False


def _one_of_one(gold: Answer, given: Answer) -> bool:
    """Compare a set or a Python list of one item with that item."""
    collection, other = (gold, given) if isinstance(gold, Collection) else (given, gold)
    if (
        isinstance(collection, Collection)
        and collection.kind in {"set", "square", "tuple"}
        and len(collection.items) == 1
    ):
        return same(collection.items[0], other)
    return False


def _same_listing(gold: Sequence[Answer], given: Sequence[Answer]) -> bool:
    """Compare lists without order. ``x=1, x=4`` and ``x=1, 4`` are the values of one name."""
    gold_name, gold = _one_name(gold)
    given_name, given = _one_name(given)
    if gold_name is not None and given_name is not None and gold_name != given_name:
        return False
    return _same_in_any_order(gold, given, same)


def _one_name(items: Sequence[Answer]) -> tuple[Answer | None, Sequence[Answer]]:
    """Return the one name that all values have, and the values; no name and the items where names differ or are missing."""
    named = [assigned(item, same) for item in items]
    names = {pair[0] for pair in named if pair}
    if len(names) != 1 or named[0] is None:
        return None, items
    if any(pair is None and isinstance(item, Relation) for pair, item in zip(named, items, strict=True)):
        return None, items
    return names.pop(), [pair[1] if pair else item for pair, item in zip(named, items, strict=True)]


# Sets of real numbers


def _same_reals(gold: Answer, given: Answer) -> bool:
    if isinstance(gold, Interval) and isinstance(given, Interval):
        closed = (gold.low_closed, gold.high_closed) == (given.low_closed, given.high_closed)
        if closed and same(gold.low, given.low) and same(gold.high, given.high):
            return True
    parts = (gold, given)
    if any(isinstance(p, Interval) and (symbols(p.low) or symbols(p.high)) for p in parts):
        return False
    try:
        sets = [real_set(p) for p in parts]
    except UnreadableError:
        if isinstance(gold, SetOperation) and isinstance(given, SetOperation) and gold.name == given.name:
            return _same_in_any_order(gold.parts, given.parts, same)
        raise
    names = {name for _, name in sets if name}
    return len(names) <= 1 and same_set(sets[0][0], sets[1][0])


# Equations and inequalities


def _exact(answer: Answer) -> Answer:
    r"""Return the exact side of ``\sqrt2 \approx 1.41`` where the other one is its rounding, else the answer."""
    match answer:
        case Relation((value, Number() as shown), ("~",)) if rounds_to(value, shown):
            return value
    return answer


def _same_relation(gold: Answer, given: Answer) -> bool:
    if (_exact(gold), _exact(given)) != (gold, given):
        return same(_exact(gold), _exact(given))
    relations = [item for item in (gold, given) if isinstance(item, Relation)]
    collection = next((item for item in (gold, given) if isinstance(item, Collection)), None)
    if collection is not None and (pair := assigned(relations[0], same)) and relations[0].signs == ("in",):
        name, values = _one_name(collection.items)
        if name == pair[0]:
            return same(pair[1], Collection("set", tuple(values)))
    if collection is not None and (listed := _component_wise(relations[0])) is not None:
        return (
            _same_listing(listed, collection.items)
            if collection.kind == "bare"
            else same(relations[0].sides[1], collection)
        )
    if all(_is_inequality(item) for item in relations):
        return _same_inequality(gold, given)
    pairs = [assigned(item, same) for item in (gold, given)]
    if len(relations) == 2:
        if all(pairs):
            (name, value), (other, other_value) = pairs[0] or (gold, gold), pairs[1] or (given, given)
            if _same_name(name, other) and same(value, other_value):
                return True
        return _same_curve(relations[0], relations[1])
    # Only a name before the sign makes an equation the value behind it.
    pair = pairs[0] or pairs[1]
    if pair is None:
        return False
    other_side = given if isinstance(gold, Relation) else gold
    return same(pair[1], other_side) if pairs[0] else same(other_side, pair[1])


def _component_wise(relation: Relation) -> list[Answer] | None:
    """Return ``x=1, y=2`` for ``(x, y) = (1, 2)``."""
    match relation:
        case Relation((Collection("tuple", names), Collection("tuple", values)), ("=",)) if len(names) == len(values):
            return [Relation((name, value), ("=",)) for name, value in zip(names, values, strict=True)]
    return None


def _is_inequality(relation: Relation) -> bool:
    return not {"=", "~"} & set(relation.signs)


def _same_inequality(gold: Answer, given: Answer) -> bool:
    try:
        return _same_reals(gold, given)
    except UnreadableError:
        match gold, given:
            case Relation((a, b), (sign,)), Relation((c, d), (other,)) if sign != "in" and other != "in":
                factor = proportional(Apply("add", (a, negative(b))), Apply("add", (c, negative(d))))
                return factor != 0 and (sign == other if factor > 0 else _REVERSED[sign] == other)
            case Relation(sides, signs), Relation(others, other_signs) if signs == other_signs:
                return _same_in_order(sides, others)
        raise


def _same_name(a: Answer, b: Answer) -> bool:
    """``f(x) = ...`` and ``y = ...`` name the same curve."""
    return a == b or (is_application(a) and b == Symbol("y")) or (is_application(b) and a == Symbol("y"))


def _same_curve(a: Relation, b: Relation) -> bool:
    match a, b:
        case Relation((left, right), ("=",)), Relation((other_left, other_right), ("=",)):
            try:
                if same(left, other_left) and same(right, other_right):
                    return True
            except UnreadableError:
                pass
            sides = (left, right, other_left, other_right)
            if any(not isinstance(side, Number | Symbol | Apply) for side in sides):
                return False
            return (
                proportional(Apply("add", (left, negative(right))), Apply("add", (other_left, negative(other_right))))
                != 0
            )
        case Relation(sides, signs), Relation(others, other_signs) if signs == other_signs:
            return _same_in_order(sides, others)
    return False

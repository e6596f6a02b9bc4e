"""Which equations give a value to a name. Only these equal the value behind the sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rstar.verify.equality.evaluate import symbols
from rstar.verify.equality.tree import CONSTANTS, Answer, Apply, Collection, Interval, Matrix, Relation, Symbol


def assigned(answer: Answer, equal: Callable[[Answer, Answer], bool]) -> tuple[Answer, Answer] | None:
    """Return name and value of ``name = value`` (or ``name in set``), else None; a chain has equal values."""
    match answer:
        case Relation((name, value), ("in",)) if isinstance(name, Symbol):
            return name, value
        case Relation((first, second), ("=",)):
            if is_name(first) and not (symbols(first) & _all_symbols(second) and isinstance(first, Symbol)):
                return first, second
            if is_name(second) and not _all_symbols(first):
                return second, first
        case Relation((name, *values), signs) if set(signs) == {"="} and is_name(name):
            if all(equal(values[0], value) for value in values[1:]):
                return name, values[0]
    return None


def is_name(answer: Answer) -> bool:
    """Return whether the answer can be the name of a value: a symbol, ``f(x)``, ``AB``, ``(x, y)``."""
    if isinstance(answer, Symbol):
        return answer.name not in CONSTANTS
    if isinstance(answer, Collection):
        return answer.kind == "tuple" and all(isinstance(item, Symbol) for item in answer.items)
    return is_application(answer) or _is_letters(answer)


def is_application(answer: Answer) -> bool:
    """Return whether the answer is the name ``f(x)`` or ``P(A)``, or a derivative ``dy/dx``."""
    match answer:
        case Symbol(name):
            return name.endswith(")")
        case Apply("div", (Apply("mul", (Symbol("d"), Symbol())), Apply("mul", (Symbol("d"), Symbol())))):
            return True
    return False


def _is_letters(answer: Answer) -> bool:
    """Return whether the answer is a product of capital letters, as in ``AB = 5``."""
    match answer:
        case Apply("abs", (inner,)):
            return _is_letters(inner)
        case Apply("mul", (Symbol("m"), Symbol(name))) if name.startswith("angle "):
            return True
        case Apply("mul", (left, Symbol(name))):
            return name.isupper() and (
                _is_letters(left)
                or (isinstance(left, Symbol) and (left.name.isupper() or left.name.startswith(("angle", "triangle"))))
            )
    return False


def _all_symbols(answer: Answer) -> frozenset[str]:
    match answer:
        case Collection(_, items):
            return _union(_all_symbols(item) for item in items)
        case Interval(low, high, _, _):
            return symbols(low) | symbols(high)
        case Matrix(rows):
            return _union(symbols(item) for row in rows for item in row)
    return symbols(answer)


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)

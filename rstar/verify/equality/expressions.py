"""Whether two expressions have the same value: exact fractions, then the tolerance of ``numbers``, then samples.

Expressions with variables are equal when they agree to 40 digits at points with several signs and magnitudes. A point
where either side is not real is left out if a variable is negative there: ``ln(x^2)`` equals ``2 ln(x)``, but
``sqrt(x^2)`` does not equal ``x``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath

from rstar.verify.equality.evaluate import NoValueError, approximate, exact, symbols
from rstar.verify.equality.numbers import rounded, same_rational
from rstar.verify.equality.tree import Answer, Apply, Number, Symbol, UnreadableError

DIGITS = 60
CHECK_DIGITS = 120
LOG_BASES = (0, 10)
"""A log without a base: natural as in Python, then decimal as in school books; the same one on both sides."""
MIN_POINTS = 3

_POSITIVE = (
    "0.7310585786300049", "1.3183090816191947", "2.1827182845904523", "0.2915026221291812", "3.6180339887498949",
    "1.9021605831040307", "0.4953487812212205", "2.7604590274117931", "5.2360679774997897", "0.1123595505617978",
)  # fmt: skip
_ROUNDS = 6
_NEGATIVE_ROUNDS = 3


def contexts() -> tuple[Any, Any]:
    """Return the contexts of the two precisions."""
    low, high = mpmath.mp.clone(), mpmath.mp.clone()
    low.dps, high.dps = DIGITS, CHECK_DIGITS
    return low, high


_LOW, _HIGH = contexts()


def same_expression(a: Answer, b: Answer) -> bool:
    """Return whether two expressions are equal. Raises ``UnreadableError`` where that cannot be computed."""
    if a == b:
        return True
    if is_infinite(a) or is_infinite(b):
        return is_infinite(a) == is_infinite(b) != 0
    names = sorted(symbols(a) | symbols(b))
    if names:
        return any(_agree(a, b, names, base) for base in _bases(a, b))
    try:
        exact_a, exact_b = exact(a), exact(b)
    except NoValueError:
        return False
    if exact_a is not None and exact_b is not None:
        return same_rational(exact_a, literal(a), exact_b, literal(b))
    return any(_same_constant(a, b, base) for base in _bases(a, b))


def rounds_to(node: Answer, shown: Number) -> bool:
    """Return whether a decimal is a constant to within one unit of its last digit."""
    if symbols(node) or is_infinite(node) or not shown.digits:
        return False
    try:
        value = approximate(node, {}, _LOW, 0)
    except NoValueError:
        return False
    difference = value - _LOW.mpf(shown.value.numerator) / shown.value.denominator
    return bool(abs(difference) * shown.ulp.denominator <= shown.ulp.numerator)


def is_infinite(node: Answer) -> int:
    """Return 1 for infinity, -1 for minus infinity, else 0."""
    if node == Symbol("infinity"):
        return 1
    return -1 if node == Apply("neg", (Symbol("infinity"),)) else 0


def literal(node: Answer) -> Number | None:
    """Return a decimal with its digits if ``node`` is one, with or without a power of ten, else None."""
    match node:
        case Number(_, digits):
            return node if digits else None
        case Apply("neg", (inner,)):
            return literal(inner)
        case Apply("mul", (Number(_, digits) as number, factor)) if digits:
            scale = exact(factor)
            return Number(number.value, digits, number.ulp * abs(scale)) if scale else None
    return None


def _bases(*nodes: Answer) -> tuple[int, ...]:
    return LOG_BASES if any(_has_bare_log(node) for node in nodes) else (0,)


def _has_bare_log(node: Answer) -> bool:
    return isinstance(node, Apply) and (
        (node.name == "log" and len(node.arguments) == 1) or any(_has_bare_log(a) for a in node.arguments)
    )


def _same_constant(a: Answer, b: Answer, base: int) -> bool:
    try:
        low_a, low_b = (approximate(node, {}, _LOW, base) for node in (a, b))
        size = max(abs(low_a), abs(low_b))
        if vanishes(low_a - low_b, size, lambda: approximate(a, {}, _HIGH, base) - approximate(b, {}, _HIGH, base)):
            return True
        shown_a, shown_b = literal(a), literal(b)
        if (shown_a is None) == (shown_b is None):
            return False
        shown, other = (shown_a, low_b) if shown_a is not None else (shown_b, low_a)
        return shown is not None and _LOW.im(other) == 0 and rounded(shown, abs(low_a - low_b), abs(other))
    except NoValueError:
        return False


def vanishes(difference: Any, size: Any, again: Any) -> bool:
    """Return whether a difference is zero: tiny beside its terms, and smaller still with twice the digits."""
    if abs(difference) > size * _LOW.mpf(10) ** (20 - DIGITS) and abs(difference) > _LOW.mpf(10) ** (20 - DIGITS):
        return False
    return bool(abs(again()) <= abs(difference) * _HIGH.mpf(10) ** -(DIGITS // 2)) or bool(
        difference == 0 and abs(again()) <= size * _HIGH.mpf(10) ** (20 - CHECK_DIGITS)
    )


def _points(names: list[str]) -> list[dict[str, Fraction]]:
    points = []
    for k in range(_ROUNDS + _NEGATIVE_ROUNDS):
        point = {}
        for j, name in enumerate(names):
            value = Fraction(_POSITIVE[(k * 3 + j * 7 + j * j) % len(_POSITIVE)]) + Fraction(j, 97)
            negative = k >= _ROUNDS and (k + j) % 2 == 0
            point[name] = -value if negative else value
        if k >= _ROUNDS and all(v > 0 for v in point.values()):
            point = {name: -value for name, value in point.items()}
        points.append(point)
    return points


def differences(a: Answer, names: list[str], base: int) -> list[tuple[bool, Any, Any]]:
    """Return, per sample point, whether a variable is negative there, and the values with both precisions."""
    found = []
    for point in _points(names):
        try:
            values = [
                approximate(a, {n: c.mpf(v.numerator) / v.denominator for n, v in point.items()}, c, base)
                for c in (_LOW, _HIGH)
            ]
        except NoValueError:
            values = [None, None]
        found.append((any(v < 0 for v in point.values()), values[0], values[1]))
    return found


def _agree(a: Answer, b: Answer, names: list[str], base: int) -> bool:
    if len(names) > len(_POSITIVE):
        raise UnreadableError("there are too many variables")
    agreed = 0
    for (negative, low_a, high_a), (_, low_b, high_b) in zip(
        differences(a, names, base), differences(b, names, base), strict=True
    ):
        if low_a is None or low_b is None:
            continue
        if negative and (_LOW.im(low_a) != 0 or _LOW.im(low_b) != 0):
            continue
        if not vanishes(low_a - low_b, max(abs(low_a), abs(low_b)), lambda a=high_a, b=high_b: a - b):
            return False
        agreed += 1
    return agreed >= MIN_POINTS


def proportional(a: Answer, b: Answer) -> int:
    """Return the sign of c if ``a = c b`` for a number c that is not 0, at all sample points; else 0."""
    names = sorted(symbols(a) | symbols(b))
    if not names or len(names) > len(_POSITIVE) or symbols(a) != symbols(b):
        return 0
    ratios = []
    for (_, low_a, high_a), (_, low_b, high_b) in zip(differences(a, names, 0), differences(b, names, 0), strict=True):
        if low_a is None or low_b is None or low_b == 0 or low_a == 0:
            continue
        ratios.append((low_a / low_b, high_a / high_b))
    if len(ratios) < MIN_POINTS:
        return 0
    first_low, first_high = ratios[0]
    if _LOW.im(first_low) != 0:
        return 0
    for low, high in ratios[1:]:
        if not vanishes(low - first_low, abs(first_low), lambda high=high: high - first_high):
            return 0
    return 1 if first_low > 0 else -1

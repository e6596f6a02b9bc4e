"""Values of expressions: exact fractions where every part is rational, else mpmath numbers of a chosen precision.

Nothing here is unbounded: powers, factorials and digits are checked before they are computed (``TooLargeError``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rstar.verify.equality.tree import CONSTANTS, Answer, Apply, Number, Symbol, UnreadableError

MAX_BITS = 60_000
"""Largest exact numerator or denominator."""
MAX_MAGNITUDE_BITS = 10_000_000
"""Largest binary exponent of an approximate value."""
MAX_FACTORIAL = 5_000


class TooLargeError(UnreadableError):
    """A value is too large to compute."""


class NoValueError(ArithmeticError):
    """The expression has no value here: a division by zero, a pole."""


def exact(node: Answer) -> Fraction | None:
    """Return the value of ``node`` if it is made of rational operations on numbers, else None.

    Raises ``TooLargeError`` and ``NoValueError``.
    """
    match node:
        case Number(value):
            return value
        case Apply(name, arguments):
            values: list[Fraction] = []
            for argument in arguments:
                found = exact(argument)
                if found is None:
                    return None
                values.append(found)
            return _bounded(_rational(name, values))
    return None


def _bounded(value: Fraction | None) -> Fraction | None:
    if value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLargeError("a number is too large to compute")
    return value


def _rational(name: str, v: list[Fraction]) -> Fraction | None:
    match name, v:
        case "add", [a, b]:
            return a + b
        case "mul", [a, b]:
            return a * b
        case "neg", [a]:
            return -a
        case "div", [a, b]:
            if b == 0:
                raise NoValueError("a division by zero")
            return a / b
        case "percent", [a]:
            return a / 100
        case "degree", [a]:
            return a
        case "pow", [a, b]:
            return _power(a, b)
        case "root", [a, b]:
            return _root(a, b)
        case "factorial", [a]:
            if a.denominator != 1 or a < 0:
                return None
            if a > MAX_FACTORIAL:
                raise TooLargeError("a factorial is too large to compute")
            return Fraction(math.factorial(int(a)))
        case "binomial", [a, b]:
            if a.denominator != 1 or b.denominator != 1 or a < 0 or b < 0:
                return None
            if a > MAX_FACTORIAL:
                raise TooLargeError("a binomial coefficient is too large to compute")
            return Fraction(math.comb(int(a), int(b)))
        case "abs", [a]:
            return abs(a)
        case "floor", [a]:
            return Fraction(math.floor(a))
        case "ceiling", [a]:
            return Fraction(math.ceil(a))
        case "sign", [a]:
            return Fraction((a > 0) - (a < 0))
        case (("gcd" | "lcm"), [_, *_]) if all(a.denominator == 1 for a in v):
            whole = [int(a) for a in v]
            return Fraction(math.gcd(*whole) if name == "gcd" else math.lcm(*whole))
        case "max", [_, *_]:
            return max(v)
        case "min", [_, *_]:
            return min(v)
    return None


def _power(a: Fraction, b: Fraction) -> Fraction | None:
    if b.denominator != 1:
        return _root(a**b.numerator, Fraction(b.denominator)) if abs(b.numerator) <= 64 and a > 0 else None
    if b == 0:
        return Fraction(1) if a != 0 else None
    if a in {0, 1, -1}:
        if a == 0 and b < 0:
            raise NoValueError("a division by zero")
        return a ** int(b % 2 or 2) if a != 0 else Fraction(0)
    bits = max(a.numerator.bit_length(), a.denominator.bit_length()) - 1
    if max(bits, 1) * abs(b) > MAX_BITS:
        raise TooLargeError("a power is too large to compute")
    return Fraction(a ** int(b))


def _root(a: Fraction, degree: Fraction) -> Fraction | None:
    """Return the root where it is rational."""
    if degree.denominator != 1 or not 2 <= degree <= 64 or a < 0:
        return None
    roots = [_whole_root(part, int(degree)) for part in (a.numerator, a.denominator)]
    return None if None in roots else Fraction(roots[0] or 0, roots[1] or 1)


def _whole_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    else:
        root, high = 0, 1 << (value.bit_length() // degree + 1)
        while root < high:
            middle = (root + high + 1) // 2
            root, high = (middle, high) if middle**degree <= value else (root, middle - 1)
    return root if root**degree == value else None


def symbols(node: Answer) -> frozenset[str]:
    """Return the names of the variables of an expression, constants left out."""
    match node:
        case Symbol(name):
            return frozenset() if name in CONSTANTS else frozenset({name})
        case Apply(_, arguments):
            return frozenset().union(*(symbols(a) for a in arguments))
    return frozenset()


def approximate(node: Answer, values: Mapping[str, Any], context: Any, log_base: int) -> Any:
    """Return the value of ``node`` as a number of the mpmath ``context``; ``log_base`` 0: a bare log is natural.

    Raises ``TooLargeError``, ``NoValueError``, and ``UnreadableError`` for a node that is no expression.
    """
    match node:
        case Number(value):
            return context.mpf(value.numerator) / value.denominator
        case Symbol("pi"):
            return +context.pi
        case Symbol("e"):
            return +context.e
        case Symbol("i"):
            return context.mpc(0, 1)
        case Symbol("infinity"):
            raise NoValueError("infinity")
        case Symbol(name):
            return values[name]
        case Apply(name, arguments):
            if name in _OF_AN_ANGLE:
                arguments = tuple(_radians(a) for a in arguments)
            numbers = [approximate(a, values, context, log_base) for a in arguments]
            try:
                result = _apply(name, numbers, context, log_base)
            except (ZeroDivisionError, ValueError, OverflowError) as error:
                raise NoValueError("no value") from error
            if not context.isfinite(result):
                raise NoValueError("no value")
            if abs(context.mag(result)) > MAX_MAGNITUDE_BITS if result else False:
                raise TooLargeError("a value is too large to compute")
            return result
    raise UnreadableError("not an expression")


_OF_AN_ANGLE = frozenset({"sin", "cos", "tan", "sec", "csc", "cot"})


def _radians(node: Answer) -> Answer:
    """Return an angle with its degrees as multiples of pi/180."""
    match node:
        case Apply("degree", (value,)):
            return Apply("div", (Apply("mul", (value, Symbol("pi"))), Number(Fraction(180))))
        case Apply(("add" | "neg" | "mul" | "div") as name, arguments):
            return Apply(name, tuple(_radians(a) for a in arguments))
    return node


def _apply(name: str, v: list[Any], c: Any, log_base: int) -> Any:
    match name, v:
        case "add", [a, b]:
            return a + b
        case "mul", [a, b]:
            return a * b
        case "neg", [a]:
            return -a
        case "div", [a, b]:
            return a / b
        case "percent", [a]:
            return a / 100
        case "degree", [a]:
            return a
        case "pow", [a, b]:
            if a != 0 and abs(b) * max(1, abs(c.mag(a))) > MAX_MAGNITUDE_BITS:
                raise TooLargeError("a power is too large to compute")
            return a**b
        case "root", [a, b]:
            if b == 3 and c.im(a) == 0 and a < 0:
                return -((-a) ** (c.mpf(1) / 3))
            return c.sqrt(a) if b == 2 else a ** (1 / b)
        case "cbrt", [a]:
            return _apply("root", [a, c.mpf(3)], c, log_base)
        case "exp", [a]:
            if abs(a) > MAX_MAGNITUDE_BITS // 2:
                raise TooLargeError("a power is too large to compute")
            return c.exp(a)
        case "ln", [a]:
            return c.log(a)
        case "log", [a]:
            return c.log(a) if log_base == 0 else c.log(a) / c.log(log_base)
        case "log", [a, b]:
            return c.log(a) / c.log(b)
        case "log10", [a]:
            return c.log(a) / c.log(10)
        case "log2", [a]:
            return c.log(a) / c.log(2)
        case "abs", [a]:
            return abs(a)
        case (("factorial" | "binomial"), [a, *_]):
            if abs(a) > MAX_FACTORIAL:
                raise TooLargeError("a factorial is too large to compute")
            return c.factorial(a) if name == "factorial" else c.binomial(*v)
        case (("sin" | "cos" | "tan" | "sec" | "csc" | "cot" | "sinh" | "cosh" | "tanh"), [a]):
            if c.mag(a) > 1000 if a else False:
                raise TooLargeError("an angle is too large to compute")
            return getattr(c, name)(a)
        case (("asin" | "acos" | "atan" | "acot" | "floor" | "sign" | "re" | "im"), [a]):
            return getattr(c, name)(a)
        case "ceiling", [a]:
            return c.ceil(a)
        case "max", [_, *_] if all(c.im(a) == 0 for a in v):
            return max(v)
        case "min", [_, *_] if all(c.im(a) == 0 for a in v):
            return min(v)
    raise UnreadableError(f"{name} of {len(v)} arguments")

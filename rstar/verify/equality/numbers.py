"""Plain numbers, and when two of them are equal.

Rational numbers are equal exactly, or within 1e-12 of the larger where one shows 15 or more significant digits, as a
computed float does. A decimal equals a number without a finite decimal form when it shows at least 6 significant
digits, differs by at most one unit of its last digit and by at most 1e-6 of the value.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rstar.verify.equality.lexer import decimal
from rstar.verify.equality.tree import Number, UnreadableError

FLOAT_DIGITS = 15
FLOAT_TOLERANCE = Fraction(1, 10**12)
ROUNDED_DIGITS = 6
ROUNDED_TOLERANCE = Fraction(1, 10**6)
NUMBER_WORDS = {
    name: k
    for k, name in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
    )
}  # fmt: skip

_PLAIN = re.compile(
    r"(?P<sign>-?)(?:(?P<whole>\d{1,300}|[1-9]\d{0,2}(?:,\d{3}){1,90})(?:(?P<point>\.)(?P<fraction>\d{0,300}))?"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3}))?"
    r"|(?P<top>\d{1,300})\s?/\s?(?P<bottom>\d{1,300})"
    r"|\\frac\s?\{(?P<top2>\d{1,300})\}\s?\{(?P<bottom2>\d{1,300})\})"
)


@lru_cache(maxsize=4096)
def plain_number(text: str) -> Number | None:
    """Return the value of an integer, a decimal or a fraction in digits; None for any other normalised text."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    sign = -1 if match["sign"] else 1
    if match["whole"] is not None:
        written = match["whole"].replace(",", "") + (f".{match['fraction']}" if match["point"] else "")
        try:
            number = decimal(written, int(match["exponent"] or 0))
        except UnreadableError:
            return None
        return Number(sign * number.value, number.digits, number.ulp)
    bottom = int(match["bottom"] or match["bottom2"])
    return Number(Fraction(sign * int(match["top"] or match["top2"]), bottom)) if bottom else None


def same_rational(a: Fraction, shown_a: Number | None, b: Fraction, shown_b: Number | None) -> bool:
    """Return whether two rational values, each perhaps written as a decimal, are equal."""
    if a == b:
        return True
    if a == 0 or b == 0 or (shown_a is None and shown_b is None):
        return False
    difference = abs(a - b)
    if max(shown.digits if shown else 0 for shown in (shown_a, shown_b)) >= FLOAT_DIGITS:
        return difference <= FLOAT_TOLERANCE * max(abs(a), abs(b))
    if shown_a is not None and shown_b is not None:
        return False
    shown, endless = (shown_a, b) if shown_a is not None else (shown_b, a)
    return shown is not None and not _terminates(endless) and rounded(shown, difference, abs(endless))


def rounded(shown: Number, difference: Any, size: Any) -> bool:
    """Return whether a decimal is the rounding of a value of that ``size`` from which it differs by ``difference``."""
    if shown.digits < ROUNDED_DIGITS:
        return False
    if shown.digits >= FLOAT_DIGITS:
        return bool(difference * FLOAT_TOLERANCE.denominator <= size)
    # Divided out, because the values may be mpmath numbers.
    return bool(difference * shown.ulp.denominator <= shown.ulp.numerator) and bool(
        difference * ROUNDED_TOLERANCE.denominator <= size
    )


def _terminates(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1

"""What an answer is, as plain data: expressions, collections, intervals, relations, matrices, words.

Parsers build these nodes, ``compare`` judges two of them. Nodes are frozen, so that equal nodes are equal in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """A rational literal; ``digits`` counts the significant digits of one written with a decimal point, else it is 0.

    ``ulp`` is the value of one unit of the last digit.
    """

    value: Fraction
    digits: int = 0
    ulp: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or a constant: ``pi``, ``e``, ``i``, ``infinity``."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation or a function: add, mul, div, pow, neg, percent, degree, sqrt, sin, binomial, ..."""

    name: str
    arguments: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Text that is not mathematics."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with a unit (canonical spelling)."""

    value: Answer
    unit: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Several answers; ``kind``: tuple ``(a, b)``, square ``[a, b]``, set ``{a, b}``, bare ``a, b``, or ratio ``a:b``."""

    kind: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """The real numbers between two ends."""

    low: Answer
    high: Answer
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class SetOperation:
    """``union``, ``intersection`` or ``difference`` of sets of real numbers."""

    name: str
    parts: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain ``sides[0] signs[0] sides[1] ...`` with the signs = < > <= >= != in."""

    sides: tuple[Answer, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with their base: 12 in base 5."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Dots:
    """The three dots of a sequence that goes on."""


Answer = (
    Number | Symbol | Apply | Words | Quantity | Collection | Interval | SetOperation | Relation | Matrix | Based | Dots
)

CONSTANTS = frozenset({"pi", "e", "i", "infinity"})


class UnreadableError(ValueError):
    """The text is not in the grammar; the message says where it stops."""


def negative(value: Answer) -> Answer:
    """Return ``-value``, folded into a literal."""
    if isinstance(value, Number):
        return Number(-value.value, value.digits, value.ulp)
    if isinstance(value, Matrix):
        return Matrix(tuple(tuple(negative(item) for item in row) for row in value.rows))
    return Apply("neg", (value,))

"""Names what an answer is, for the reason that a comparison gives."""

from __future__ import annotations

from rstar.verify.equality.evaluate import symbols
from rstar.verify.equality.tree import (
    CONSTANTS,
    Answer,
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
    Words,
)


def kind(answer: Answer) -> str:
    """Return what an answer is, in words."""
    match answer:
        case Number():
            return "a number"
        case Words():
            return "words"
        case Quantity(value, _):
            return kind(value)
        case Collection(own, _):
            return {"bare": "a list", "square": "a list in brackets", "ratio": "a ratio", "time": "a time"}.get(
                own, f"a {own}"
            )
        case Interval():
            return "an interval"
        case SetOperation():
            return "a set of numbers"
        case Relation(_, signs):
            return "an equation" if set(signs) <= {"="} else "an inequality"
        case Matrix():
            return "a matrix"
        case Based():
            return "a number in a base"
        case Symbol(name) if name not in CONSTANTS:
            return "a letter"
        case Dots():
            return "dots"
    return "an expression" if symbols(answer) else "a number"

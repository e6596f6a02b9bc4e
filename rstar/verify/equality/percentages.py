"""Compares percentages: 50 % is 50 and 0.5."""

from __future__ import annotations

from rstar.verify.equality.expressions import same_expression
from rstar.verify.equality.tree import Answer, Apply, negative


def is_percent(answer: Answer) -> bool:
    """Return whether ``answer`` has a percent sign, with or without a minus sign before it."""
    return isinstance(answer, Apply) and (
        answer.name == "percent" or (answer.name == "neg" and is_percent(answer.arguments[0]))
    )


def _percent_value(answer: Answer) -> Answer:
    assert isinstance(answer, Apply)
    (inner,) = answer.arguments
    return inner if answer.name == "percent" else negative(_percent_value(inner))


def same_percent(gold: Answer, given: Answer) -> bool:
    """Return whether two answers are equal, of which one is a percentage at least; of two the figures are compared."""
    if is_percent(gold) and is_percent(given):
        return same_expression(_percent_value(gold), _percent_value(given))
    percent, other = (gold, given) if is_percent(gold) else (given, gold)
    return same_expression(_percent_value(percent), other) or same_expression(percent, other)

r"""Sums, products, integrals and limits: read by the ``math-verify`` library, compared by value.

The library's own comparison is not used: it is lenient. Everything here may hang, so it runs in a worker only.
"""

from __future__ import annotations

import re

_CALCULUS = re.compile(r"\\(?:int|iint|sum|prod|lim)(?![A-Za-z])")
_COMMANDS = re.compile(r"\\([A-Za-z]+)")
_KNOWN = frozenset(
    [
        "int",
        "iint",
        "sum",
        "prod",
        "lim",
        "to",
        "infty",
        "frac",
        "sqrt",
        "sin",
        "cos",
        "tan",
        "ln",
        "log",
        "exp",
        "pi",
        "cdot",
        "times",
        "theta",
        "alpha",
        "beta",
        "text",
        "rightarrow",
    ]
)
DIGITS = 40
_POINTS = ("13/17", "29/11", "41/23", "7/19")


def needs_library(reference: str, answer: str) -> bool:
    """Return whether a text has a sum, product, integral or limit, and neither has a command that is not known."""
    both = reference + answer
    return bool(_CALCULUS.search(both)) and set(_COMMANDS.findall(both)) <= _KNOWN


def same_by_library(reference: str, answer: str) -> tuple[bool, str]:
    """Return whether two texts have the same value, and why."""
    import sympy
    from math_verify import parse

    read = []
    for text in (reference, answer):
        found = parse(f"\\boxed{{{text}}}", parsing_timeout=None)
        expressions = [item for item in found if isinstance(item, sympy.Expr)]
        if not expressions:
            return False, "the expression cannot be read"
        read.append(expressions[0].doit())
    gold, given = read
    names = sorted(gold.free_symbols | given.free_symbols, key=str)
    for k in range(len(_POINTS) if names else 1):
        point = {name: sympy.Rational(_POINTS[(k + j) % len(_POINTS)]) + j for j, name in enumerate(names)}
        values = [sympy.N(item.subs(point), DIGITS) for item in (gold, given)]
        difference = abs(values[0] - values[1])
        if not (difference.is_Float or difference.is_zero) or difference > sympy.Float(10) ** (10 - DIGITS) * (
            abs(values[0]) + abs(values[1])
        ):
            return False, "not equal as an expression"
    return True, "equal as an expression"

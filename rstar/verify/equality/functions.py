"""The functions and constants that answers may name, with their spellings in LaTeX, Python and sympy."""

from __future__ import annotations

from rstar.verify.equality.tree import Symbol

FUNCTIONS = {
    **{name: name for name in ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "asin", "acos", "atan")},
    **{name: name for name in ("exp", "abs", "floor", "gcd", "lcm", "max", "min", "factorial", "binomial", "sqrt", "re", "im")},
    **dict.fromkeys(("arcsin",), "asin"),
    **dict.fromkeys(("arccos",), "acos"),
    **dict.fromkeys(("arctan",), "atan"),
    **dict.fromkeys(("arccot", "acot"), "acot"),
    **dict.fromkeys(("cosec",), "csc"),
    **dict.fromkeys(("ln",), "ln"),
    **dict.fromkeys(("log",), "log"),
    **dict.fromkeys(("lg", "log10"), "log10"),
    **dict.fromkeys(("log2",), "log2"),
    **dict.fromkeys(("Abs",), "abs"),
    **dict.fromkeys(("ceil", "ceiling"), "ceiling"),
    **dict.fromkeys(("cbrt",), "cbrt"),
    **dict.fromkeys(("sgn", "sign"), "sign"),
}  # fmt: skip
"""Spelling -> the name in the tree."""

NAMES = {
    "pi": Symbol("pi"),
    "oo": Symbol("infinity"),
    "inf": Symbol("infinity"),
    "infinity": Symbol("infinity"),
}
"""Words that are constants."""

"""Reads what Python and sympy print (``3*x**2 - 2*x``, ``[-1, 2]``, ``Interval.open(-oo, 2)``, ``Matrix([[1], [2]])``).

The text is parsed to Python's syntax tree and translated node by node; a node or a name that is not listed here is
refused. Nothing is evaluated.
"""

from __future__ import annotations

import ast
import re
import warnings
from fractions import Fraction

from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.lexer import decimal
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Collection,
    Interval,
    Matrix,
    Number,
    Relation,
    SetOperation,
    Symbol,
    UnreadableError,
    Words,
    negative,
)

MAX_DEPTH = 60

_OPERATIONS = {ast.Add: "add", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_COMPARISONS = {ast.Lt: "<", ast.Gt: ">", ast.LtE: "<=", ast.GtE: ">=", ast.NotEq: "!=", ast.Eq: "="}
_RELATIONS = {"Eq": "=", "Ne": "!=", "Lt": "<", "Gt": ">", "Le": "<=", "Ge": ">="}
_CONSTANTS = {**NAMES, "I": Symbol("i"), "E": Symbol("e"), "exp1": Symbol("e")}
_VARIABLE = re.compile(r"(?:[A-Za-z]|" + "|".join(sorted(GREEK)) + r")_?\d*")
_WRAPPERS = frozenset(
    {"Integer", "S", "Float", "float", "int", "Decimal", "sympify", "float64", "int64", "float32", "nsimplify"}
)
_COLLECTIONS = {
    "FiniteSet": "set",
    "set": "set",
    "frozenset": "set",
    "list": "square",
    "tuple": "tuple",
    "Tuple": "tuple",
}
_MODULES = frozenset({"np", "numpy", "sp", "sympy", "math", "S"})


def parse_python(text: str) -> Answer:
    """Return the answer that the Python expression ``text`` writes. Raises ``UnreadableError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UnreadableError("not a Python expression") from None
    return _Translator(text.strip()).answer(tree, 0)


class _Translator:
    def __init__(self, text: str) -> None:
        self._text = text

    def answer(self, node: ast.expr, depth: int) -> Answer:
        if depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        down = depth + 1
        match node:
            case ast.Constant(value):
                return self.constant(node, value)
            case ast.Name(name):
                return self.name(name)
            case ast.Attribute(ast.Name(module), name) if module in _MODULES:
                return self.name(name)
            case ast.UnaryOp(ast.USub(), operand):
                return negative(self.answer(operand, down))
            case ast.UnaryOp(ast.UAdd(), operand):
                return self.answer(operand, down)
            case ast.BinOp(left, operator, right):
                return self.operation(operator, self.answer(left, down), self.answer(right, down))
            case ast.Compare(left, operators, others):
                signs = tuple(_COMPARISONS.get(type(o), "") for o in operators)
                if "" in signs:
                    raise UnreadableError("a comparison that is not known")
                return Relation(tuple(self.answer(side, down) for side in (left, *others)), signs)
            case ast.Tuple(items):
                # Without parentheses it is a list: its first item starts where it starts.
                bare = items and node.col_offset == items[0].col_offset
                return Collection("bare" if bare else "tuple", tuple(self.answer(item, down) for item in items))
            case ast.List(items):
                return self.square([self.answer(item, down) for item in items])
            case ast.Set(items):
                return Collection("set", tuple(self.answer(item, down) for item in items))
            case ast.Dict(keys, values) if all(keys):
                pairs = zip(keys, values, strict=True)
                return Collection(
                    "bare", tuple(Relation((self.answer(k, down), self.answer(v, down)), ("=",)) for k, v in pairs if k)
                )
            case ast.Call(function, arguments, []):
                return self.call(function, [self.answer(a, down) for a in arguments])
        raise UnreadableError(f"{type(node).__name__} is not an answer")

    def constant(self, node: ast.Constant, value: object) -> Answer:
        if isinstance(value, bool):
            return Words(str(value).lower())
        if isinstance(value, int):
            if value.bit_length() > 14_000:
                raise UnreadableError("a number has too many digits")
            return Number(Fraction(value))
        if isinstance(value, float):
            source = (ast.get_source_segment(self._text, node) or "").lower().replace("_", "")
            digits, _, exponent = source.partition("e")
            if exponent and len(exponent) > 6:
                raise UnreadableError("a power of ten is too large")
            number = decimal(digits, int(exponent or 0))
            return number
        if isinstance(value, complex):
            return Apply("mul", (Number(Fraction(str(value.imag))), Symbol("i")))
        if isinstance(value, str):
            return Words(value)
        raise UnreadableError("a constant that is no answer")

    def name(self, name: str) -> Answer:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name == "Reals":
            return Interval(negative(Symbol("infinity")), Symbol("infinity"), False, False)
        if name == "EmptySet":
            return SetOperation("union", ())
        if not _VARIABLE.fullmatch(name):
            raise UnreadableError(f"{name!r} is not known")
        letters = name.rstrip("0123456789")
        return Symbol(name if letters == name else f"{letters.rstrip('_')}_{name[len(letters) :]}")

    def operation(self, operator: ast.operator, left: Answer, right: Answer) -> Answer:
        if isinstance(operator, ast.Sub):
            return Apply("add", (left, negative(right)))
        if isinstance(operator, ast.BitOr | ast.BitAnd) and all(
            isinstance(s, Relation | Interval) for s in (left, right)
        ):
            return SetOperation("union" if isinstance(operator, ast.BitOr) else "intersection", (left, right))
        name = _OPERATIONS.get(type(operator))
        if name is None:
            raise UnreadableError("an operator that is not known")
        return Apply(name, (left, right))

    def square(self, items: list[Answer]) -> Answer:
        rows = [item.items for item in items if isinstance(item, Collection) and item.kind == "square"]
        if rows and len(rows) == len(items) and len({len(row) for row in rows}) == 1 and rows[0]:
            return Matrix(tuple(rows))
        return Collection("square", tuple(items))

    def call(self, function: ast.expr, arguments: list[Answer]) -> Answer:
        match function:
            case ast.Name(name):
                pass
            case ast.Attribute(ast.Name("Interval"), ("open" | "Lopen" | "Ropen") as kind) if len(arguments) == 2:
                return Interval(arguments[0], arguments[1], kind == "Ropen", kind == "Lopen")
            case ast.Attribute(ast.Name(module), name) if module in _MODULES:
                pass
            case _:
                raise UnreadableError("a call that is not known")
        match name, arguments:
            case (("Rational" | "Fraction"), [top, bottom]):
                return Apply("div", (top, bottom))
            case (("Rational" | "Fraction"), [Words(text)]):
                return parse_python(text)
            case (("Symbol" | "Str"), [Words(text)]):
                return self.name(text)
            case _, [Words(text)] if name in _WRAPPERS:
                return parse_python(text)
            case _, [value, *_] if name in _WRAPPERS or name in {"Rational", "Fraction"}:
                return value
            case "Interval", [low, high, *flags]:
                opened = [flag == Words("true") for flag in flags] + [False, False]
                return Interval(low, high, not opened[0], not opened[1])
            case (("Union" | "Intersection"), [_, *_]):
                return SetOperation(name.lower(), tuple(arguments))
            case (("Or" | "And"), [_, *_]):
                return SetOperation("union" if name == "Or" else "intersection", tuple(arguments))
            case "Complement", [_, _]:
                return SetOperation("difference", tuple(arguments))
            case (("Matrix" | "ImmutableMatrix" | "MutableDenseMatrix" | "ImmutableDenseMatrix"), [content]):
                return self.matrix(content)
            case "array", [content]:
                return content
            case (("set" | "frozenset" | "list" | "tuple"), [Collection(_, items)]):
                return Collection(_COLLECTIONS[name], items)
            case (("FiniteSet" | "Tuple"), _):
                return Collection(_COLLECTIONS[name], tuple(arguments))
            case _, [left, right] if name in _RELATIONS:
                return Relation((left, right), (_RELATIONS[name],))
            case "root", [value, degree]:
                return Apply("root", (value, degree))
            case (("sqrt" | "cbrt"), [value]):
                return Apply("root", (value, Number(Fraction(2 if name == "sqrt" else 3))))
            case _, [_, *_] if name in FUNCTIONS:
                return Apply("ln" if name == "log" and len(arguments) == 1 else FUNCTIONS[name], tuple(arguments))
        raise UnreadableError(f"{name!r} is not known")

    def matrix(self, content: Answer) -> Answer:
        if isinstance(content, Matrix):
            return content
        if isinstance(content, Collection) and content.items:
            return Matrix(tuple((item,) for item in content.items))
        raise UnreadableError("a matrix without rows")

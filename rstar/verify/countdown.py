r"""The verifier of Countdown: the answer must show how the target is reached, so the target alone is wrong.

An answer has one of two forms, and is computed on the multiset of given numbers with exact fractions:

    (8 - 2) * 4             an expression over all numbers, with or without "= 24" after it
    8 - 2 = 6 ; 6 * 4 = 24  equations separated by new lines, semicolons or commas; each uses up its numbers

LaTeX and Unicode operators are read (\times \cdot \div \frac{a}{b}). All else is wrong: powers, names, functions, a
minus before a number unless that negative number is available, and an equation with a rounded value (8 / 3 = 2.67 is
not true: write one expression). No answer is expensive: its numbers are checked before anything is computed.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from rstar.interfaces import Verdict
from rstar.problem import Problem

MAX_ANSWER_CHARACTERS = 1_000
MAX_VALUE = 10**15
MAX_QUOTED = 40

_SYNONYMS = {
    **dict.fromkeys((r"\times", r"\cdot", r"\ast", "×", "·", "⋅", "∗"), "*"),
    **dict.fromkeys((r"\div", "÷", "∕"), "/"),
    **dict.fromkeys(("−", "–", "‐", "‑"), "-"),
    **dict.fromkeys((r"\left", r"\right", r"\,", r"\!", r"\;", r"\ ", "$", "\u00a0"), " "),
    "\\\\": "\n",
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
}
_SYNONYM = re.compile("|".join(re.escape(text) for text in sorted(_SYNONYMS, key=len, reverse=True)))
_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_SEPARATOR = re.compile(r"[\n;,]")
_FOREIGN = re.compile(r"[^0-9.+\-*/() \t]|\*\s*\*|/\s*/")


class RejectedError(Exception):
    """The answer is not a solution; the message is the reason."""


class CountdownVerifier:
    """Computes an answer on ``problem.data["nums"]`` and compares the result with ``problem.data["target"]``."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge ``answer``; ``problem.answer`` is not used."""
        nums, target = problem.data.get("nums"), problem.data.get("target")
        if not isinstance(nums, list | tuple) or not all(type(n) is int for n in nums) or type(target) is not int:
            return Verdict(False, "the problem's data has no integers nums and target")
        try:
            replay(answer, list(nums), target)
        except RejectedError as rejected:
            return Verdict(False, str(rejected))
        except RecursionError:
            return Verdict(False, "the expression is nested too deeply")
        return Verdict(True, f"reaches {target} with every number used once")


def replay(answer: str, nums: list[int], target: int) -> None:
    """Compute ``answer`` on ``nums``. Raises ``RejectedError`` unless exactly ``target`` is left."""
    if len(answer) > MAX_ANSWER_CHARACTERS:
        raise RejectedError(f"the answer has {len(answer):,} characters, more than {MAX_ANSWER_CHARACTERS:,}")
    pieces = [piece.strip() for piece in _SEPARATOR.split(plain(answer)) if piece.strip()]
    if not pieces:
        raise RejectedError("the answer is empty")
    left = Counter(Fraction(n) for n in nums)
    for piece in pieces:
        side, *results = piece.split("=")
        if len(results) > 1 or (not results and len(pieces) > 1):
            raise RejectedError(f"{quoted(piece)} is not one equation")
        tree = parse(side)
        numbers = Counter(leaves(tree))
        if missing := numbers - left:
            raise RejectedError(f"{next(iter(missing))} in {quoted(side)} is not among the numbers left")
        if isinstance(tree, ast.Constant | ast.UnaryOp) and len(nums) > 1:
            raise RejectedError(f"{quoted(side)} shows no operation")
        value = evaluate(tree)
        if results and value != (claimed := number(parse(results[0]), results[0])):
            raise RejectedError(f"{quoted(side)} is {value}, not {claimed}")
        left = left - numbers + Counter([value])
    unused = sorted(left.elements())
    if len(unused) > 1:
        raise RejectedError(f"not every number is used: {', '.join(map(str, unused))} are left")
    if unused != [target]:
        raise RejectedError(f"the result is {unused[0]}, not {target}")


def plain(answer: str) -> str:
    r"""Return ``answer`` with + - * / and parentheses in place of LaTeX and Unicode operators."""
    text = _SYNONYM.sub(lambda match: _SYNONYMS[match.group()], answer)
    replaced = 1
    while replaced:
        text, replaced = _FRACTION.subn(lambda m: f"(({m[1] or m[2]})/({m[3] or m[4]}))", text)
    return text.replace("{", "(").replace("}", ")")


def parse(text: str) -> ast.expr:
    """Parse one side of an equation. Raises ``RejectedError`` for anything but numbers, + - * / and parentheses."""
    if foreign := _FOREIGN.search(text):
        raise RejectedError(
            f"{foreign.group()!r} in {quoted(text)} is not allowed: only numbers, + - * / and parentheses are"
        )
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RejectedError(f"{quoted(text)} is not an expression") from None


def leaves(tree: ast.expr) -> Iterator[Fraction]:
    """Yield the numbers of an expression, left to right."""
    match tree:
        case ast.BinOp(left=left, right=right):
            yield from leaves(left)
            yield from leaves(right)
        case _:
            yield number(tree, ast.unparse(tree))


def number(tree: ast.expr, text: str) -> Fraction:
    """Return the value of a literal with or without a minus. Raises ``RejectedError`` for another expression."""
    sign = 1
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        sign, tree = -1, tree.operand
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float) and tree.value < MAX_VALUE:
        # From the decimal text, so that 0.2 is exactly one fifth.
        return sign * Fraction(str(tree.value))
    raise RejectedError(f"{quoted(text)} is not a number")


def evaluate(tree: ast.expr) -> Fraction:
    """Return the exact value of an expression. Raises ``RejectedError`` for a division by zero."""
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            a, b = evaluate(left), evaluate(right)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
            if b == 0:
                raise RejectedError(f"{quoted(ast.unparse(tree))} divides by zero")
            return a / b
    return number(tree, ast.unparse(tree))


def quoted(text: str) -> str:
    """Return ``text`` in quotes, shortened for a one-line reason."""
    text = " ".join(text.split())
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...")

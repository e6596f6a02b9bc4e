r"""Cuts normalised text into tokens: numbers, names, commands, texts, signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rstar.verify.equality.normalise import closing_brace
from rstar.verify.equality.tree import Number, UnreadableError

MAX_EXPONENT = 5_000
"""Largest power of ten of a literal such as 1e300."""
MAX_TOKENS = 800

_NUMBER = re.compile(
    r"(?P<whole>\d*)\.(?P<head>\d*)\\(?:overline|bar|dot)\s*\{?(?P<bar>(?<=\{)\d+(?=\})|\d)\}?"
    r"|(?P<whole2>\d*)\.(?P<head2>\d*)\((?P<group>\d+)\)"
    r"|(?P<whole3>\d*)\.(?P<shown>\d+)\s*\\dots(?![A-Za-z])"
    r"|(?P<decimal>\d+\.\d*|\.\d+|\d+)(?:[eE](?P<exponent>[+-]?\d{1,6})(?![\w.]))?"
)
_TOKEN = re.compile(
    r"\s+|(?P<command>\\[A-Za-z]+|\\[{}|\\])|(?P<name>[A-Za-z]+)|(?P<sign>\*\*|<=|>=|!=|==|[-+*/^_=<>(){}\[\],;:|!%&'])"
)


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: number, name, command, text, sign or end; ``space``: white space stands before it."""

    kind: str
    text: str
    space: bool = False
    number: Number | None = None


_END = Token("end", "")
_SIGNS = {"**": "^", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "="}


def tokens(text: str) -> list[Token]:
    """Return the tokens of ``text`` and a final ``end``. Raises ``UnreadableError``."""
    found: list[Token] = []
    position, space = 0, False
    while position < len(text):
        if len(found) > MAX_TOKENS:
            raise UnreadableError("the text is too long")
        if (
            text[position].isdigit()
            or (text[position] == "." and text[position + 1 : position + 2].isdigit())
            or (text.startswith((r".\overline",), position))
        ):
            match = _NUMBER.match(text, position)
            if match is None:
                raise UnreadableError(f"{text[position]!r} is no number")
            found.append(Token("number", match[0], space, literal(match)))
            position, space = match.end(), False
            continue
        if text.startswith((r"\text{", r"\text {"), position):
            start = text.index("{", position)
            end = closing_brace(text, start)
            if end < 0:
                raise UnreadableError("a brace is not closed")
            found.append(Token("text", text[start + 1 : end].strip(), space))
            position, space = end + 1, False
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnreadableError(f"{text[position]!r} is no mathematics")
        position = match.end()
        if match.lastgroup is None:
            space = True
            continue
        piece = match[0]
        found.append(Token(match.lastgroup, _SIGNS.get(piece, piece), space))
        space = False
    return [*found, _END]


def literal(match: re.Match[str]) -> Number:
    """Return the value of a number. Raises ``UnreadableError`` when it is too large."""
    if match["bar"] is not None:
        return repeating(match["whole"], match["head"], match["bar"])
    if match["group"] is not None:
        return repeating(match["whole2"], match["head2"], match["group"])
    if match["shown"] is not None:
        head, block = period(match["shown"])
        if block:
            return repeating(match["whole3"], head, block)
        return decimal(f"{match['whole3']}.{match['shown']}", 0)
    return decimal(match["decimal"], int(match["exponent"] or 0))


def decimal(text: str, exponent: int) -> Number:
    """Return ``text`` times ten to ``exponent``."""
    if abs(exponent) > MAX_EXPONENT:
        raise UnreadableError("a power of ten is too large")
    whole, point, fraction = text.partition(".")
    places = len(fraction)
    scale = Fraction(10) ** (exponent - places)
    value = Fraction(_integer(whole + fraction)) * scale
    written_as_float = bool(point) and value != 0
    return Number(value, len((whole + fraction).lstrip("0")), scale) if written_as_float else Number(value)


def repeating(whole: str, head: str, block: str) -> Number:
    """Return 0.1666... for head "1" and block "6"."""
    base = Fraction(_integer(whole + head), 10 ** len(head))
    return Number(base + Fraction(_integer(block), (10 ** len(block) - 1) * 10 ** len(head)))


def period(shown: str) -> tuple[str, str]:
    """Return the digits before the repeating block and the block (empty: none), seen twice (one digit: three times)."""
    for size in range(1, len(shown) // 2 + 1):
        block = shown[-size:]
        times = 3 if size == 1 else 2
        if len(shown) >= size * times and shown.endswith(block * times):
            head = shown
            while head.endswith(block):
                head = head[: -len(block)]
            return head, block
    return shown, ""


def _integer(digits: str) -> int:
    # Longer texts are refused before; the limit of int() on digits does not matter below it.
    if len(digits) > 4_000:
        raise UnreadableError("a number has too many digits")
    return int(digits or "0")

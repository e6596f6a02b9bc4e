r"""Reads arithmetic: sums, products and powers of what ``atoms`` reads, in LaTeX and plain text.

Strict: letters in a row are a product only when they are few (``6xy``), and a number never follows a letter (``May 6``).
"""

from __future__ import annotations

from rstar.verify.equality.atoms import DECORATED, LETTER_MARKS, SYMBOL_COMMANDS, Atoms
from rstar.verify.equality.functions import FUNCTIONS
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Dots,
    Matrix,
    Number,
    Symbol,
    UnreadableError,
    negative,
)

WORD_LISTS = frozenset({"and", "or"})
"""Words that separate the parts of a list."""


class Arithmetic(Atoms):
    """The part of the parser below lists and relations; what stands in brackets is read by ``brackets``."""

    def sum(self) -> Answer:
        """Return products joined by plus, minus and plus-minus signs; or dots."""
        value: Answer | None = None
        while True:
            if self.token.text in {r"\pm", r"\mp"}:
                operation = "pm" if self.next().text == r"\pm" else "mp"
                right = Apply(operation, (self.product(),))
                value = right if value is None else Apply("add", (value, right))
            elif value is None:
                if self.token.text == r"\dots":
                    self.next()
                    return Dots()
                value = self.product()
            elif self.accept("+"):
                value = Apply("add", (value, self.product()))
            elif self.accept("-"):
                value = Apply("add", (value, negative(self.product())))
            else:
                return value

    def product(self) -> Answer:
        """Return factors joined by signs or standing side by side."""
        value = self.unary()
        while True:
            if self.accept("*") or self.accept(r"\cdot") or self.accept(r"\times"):
                value = multiplied(value, self.unary())
            elif self.accept("/"):
                value = Apply("div", (value, self.unary()))
            elif self.starts_factor():
                self.forbid_number_after_letter(value)
                value = multiplied(value, self.power())
            else:
                return value

    def forbid_number_after_letter(self, value: Answer) -> None:
        """Raise ``UnreadableError`` where a number follows something else than a sign."""
        before = self._tokens[self._at - 1]
        if self.token.kind == "number" and before.kind != "sign":
            whole = isinstance(value, Number) and before.kind == "number" and self.token.space
            if not (whole and self.peek().text == "/" and self.peek(2).kind == "number"):
                raise UnreadableError("a number follows without a sign")

    def mixed(self, value: Answer) -> Answer | None:
        r"""Return ``2 1/2`` or ``2\frac12`` as one number; None when it is a product."""
        whole = value
        if not (isinstance(whole, Number) and whole.value.denominator == 1 and not whole.digits):
            return None
        if self._tokens[self._at - 1].kind != "number":
            return None
        start = self._at
        if self.token.text == r"\frac":
            part = self.nested(self.atom)
        elif self.token.kind == "number" and self.peek().text == "/":
            top = self.nested(self.atom)
            self.expect("/")
            part = Apply("div", (top, self.nested(self.atom)))
        else:
            return None
        match part:
            case Apply("div", (Number(top_value, 0), Number(bottom, 0))) if (
                top_value.denominator == bottom.denominator == 1 and 0 < top_value < bottom
            ):
                return Number(whole.value + top_value / bottom)
        self._at = start
        if self.token.kind == "number":
            raise UnreadableError("a number follows without a sign")
        return None

    def starts_factor(self) -> bool:
        """Return whether the next token can be a factor without a sign before it."""
        token = self.token
        if token.kind == "number":
            return True
        if token.kind == "name":
            return token.text.lower() not in WORD_LISTS and not (token.text == "U" and token.space)
        if token.kind == "sign":
            return token.text in {"(", "{", "["} or (token.text == "|" and not self._bars)
        if token.kind == "command":
            return (
                token.text in SYMBOL_COMMANDS
                or token.text in {*DECORATED, *LETTER_MARKS}
                or token.text[1:] in FUNCTIONS
                or token.text in {r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\infty", r"\begin", r"\{"}
            )
        return False

    def unary(self) -> Answer:
        """Return a power with its sign."""
        if self.accept("-"):
            return negative(self.nested(self.unary))
        if self.accept("+"):
            return self.nested(self.unary)
        return self.power()

    def power(self) -> Answer:
        """Return an atom with its exponents, factorials, degrees and percent signs."""
        base = self.nested(self.atom)
        base = self.mixed(base) or base
        while True:
            if self.accept("^"):
                base = Apply("pow", (base, self.nested(self.exponent)))
            elif self.accept("!"):
                base = Apply("factorial", (base,))
            elif self.accept(r"\degree"):
                base = Apply("degree", (base,))
            elif self.accept("%"):
                base = Apply("percent", (base,))
            elif self.token.text == "'" and self.token.kind == "sign" and isinstance(base, Symbol):
                self.next()
                base = Symbol(f"{base.name}'")
            else:
                return base

    def exponent(self) -> Answer:
        """Return what a circumflex raises to."""
        if self.accept("-"):
            return negative(self.nested(self.exponent))
        if self.accept("+"):
            return self.nested(self.exponent)
        value = self.nested(self.atom)
        if self.accept("^"):
            return Apply("pow", (value, self.nested(self.exponent)))
        if self.accept("!"):
            return Apply("factorial", (value,))
        return value


def multiplied(a: Answer, b: Answer) -> Answer:
    """Return the product; of a number and a matrix it is a matrix."""
    if isinstance(b, Matrix) and isinstance(a, Number | Symbol | Apply):
        return Matrix(tuple(tuple(Apply("mul", (a, item)) for item in row) for row in b.rows))
    return Apply("mul", (a, b))

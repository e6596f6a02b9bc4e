r"""Reads arithmetic: sums, products, powers, fractions, roots, functions, in LaTeX and plain text.

Strict: letters in a row are a product only when they are few (``6xy``), and a number never follows a letter (``May 6``).
"""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction

from rstar.verify.equality.cursor import Cursor
from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.lexer import Token
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Collection,
    Dots,
    Matrix,
    Number,
    SetOperation,
    Symbol,
    UnreadableError,
    negative,
)

MAX_LETTERS = 3
"""Letters in a row that may be a product of variables."""
WORD_LISTS = frozenset({"and", "or"})
"""Words that separate the parts of a list."""

SYMBOL_COMMANDS = {f"\\{name}": name for name in GREEK} | {
    f"\\{name}": name for name in ("Gamma", "Delta", "Theta", "Lambda", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell")
}
_DECORATED = (
    "\\vec",
    "\\overline",
    "\\overrightarrow",
    "\\hat",
    "\\bar",
    "\\widehat",
    "\\tilde",
    "\\dot",
    "\\mathcal",
    "\\underline",
    "\\mathbb",
)
_LETTER_MARKS = ("\\angle", "\\triangle")


class Arithmetic(Cursor):
    """The part of the parser below lists and relations; what stands in brackets is read by ``parser``."""

    _bars = 0

    @abstractmethod
    def items(self, closers: tuple[str, ...] = (), *, expand: bool = False) -> tuple[list[Answer], list[str]]:
        """Return the parts of a list and the separators between them."""

    @abstractmethod
    def nested_items(self, closer: str) -> tuple[list[Answer], list[str]]:
        """Return the same up to a closing bracket, which is read."""

    @abstractmethod
    def brackets(self, opener: str) -> Answer:
        """Return what ``(`` or ``[`` opens."""

    @abstractmethod
    def braces(self, closer: str) -> Answer:
        """Return a group or a set."""

    @abstractmethod
    def matrix(self) -> Answer:
        """Return a matrix, from behind its ``begin``."""

    @abstractmethod
    def number_set(self) -> Answer:
        """Return the set that a blackboard letter names."""

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
                or token.text in {*_DECORATED, *_LETTER_MARKS}
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

    def atom(self) -> Answer:
        """Return the smallest piece: a number, a name, a command or a group."""
        token = self.next()
        if token.kind == "number" and token.number is not None:
            return token.number
        if token.kind == "name":
            return self.name(token)
        if token.kind == "text":
            return self.text(token)
        if token.kind == "command":
            return self.command(token.text)
        if token.kind == "sign":
            return self.sign(token.text)
        raise UnreadableError("the text ends too early")

    def text(self, token: Token) -> Answer:
        """Return a letter or a function that stands in text."""
        inner = token.text.strip()
        if len(inner) == 1 and inner.isalpha():
            return self.subscripted(Symbol(inner))
        if inner in NAMES or inner in FUNCTIONS:
            return self.name(Token("name", inner))
        raise UnreadableError(f"{inner!r} is text")

    def name(self, token: Token) -> Answer:
        """Return a function, a constant, a variable, or the first of a few variables."""
        text = token.text
        if text in FUNCTIONS:
            return self.function(text)
        if text in NAMES:
            return self.subscripted(NAMES[text])
        if text in GREEK:
            return self.subscripted(Symbol(text))
        if len(text) > MAX_LETTERS:
            raise UnreadableError(f"{text!r} is a word")
        if len(text) > 1 and not (text.islower() or text.isupper()):
            raise UnreadableError(f"{text!r} is a word")
        if len(text) == 1:
            return self.subscripted(Symbol(text))
        # The last letter takes the sub- and superscript, so the others are put back as tokens.
        self._at -= 1
        self._tokens[self._at : self._at + 1] = [Token("name", letter) for letter in text]
        return self.atom()

    def subscripted(self, base: Symbol) -> Symbol:
        """Return the symbol with its subscript."""
        if not self.accept("_"):
            return base
        if self.accept("{"):
            parts: list[str] = []
            while not self.accept("}"):
                if self.token.kind == "end":
                    raise UnreadableError("a brace is not closed")
                parts.append(self.next().text)
            return Symbol(f"{base.name}_{''.join(parts)}")
        return Symbol(f"{base.name}_{self.next().text}")

    def command(self, text: str) -> Answer:
        """Return what a LaTeX command begins."""
        name = text[1:]
        if text == r"\frac":
            return Apply("div", (self.argument(), self.argument()))
        if text == r"\sqrt":
            return self.root()
        if text == r"\binom":
            return Apply("binomial", (self.argument(), self.argument()))
        if text == r"\infty":
            return Symbol("infinity")
        if text == r"\emptyset":
            return SetOperation("union", ())
        if text == r"\mathbb":
            return self.number_set()
        if text in _LETTER_MARKS:
            return Symbol(f"{name} {self.next().text}")
        if text in _DECORATED:
            self.expect("{")
            parts = []
            while not self.accept("}"):
                if self.token.kind not in {"name", "number", "command", "sign"} or self.token.text == "{":
                    raise UnreadableError("a decorated name is too long")
                parts.append(self.next().text)
            return self.subscripted(Symbol(f"{name} {''.join(parts)}"))
        if text in {r"\lfloor", r"\lceil"}:
            value = self.nested(self.sum)
            self.expect(text.replace("l", "r", 1))
            return Apply("floor" if text == r"\lfloor" else "ceiling", (value,))
        if text == r"\{":
            return self.braces(r"\}")
        if text == r"\langle":
            items, _ = self.items()
            self.expect(r"\rangle")
            return Collection("tuple", tuple(items))
        if text == r"\begin":
            return self.matrix()
        if text in SYMBOL_COMMANDS:
            return self.subscripted(Symbol(SYMBOL_COMMANDS[text]))
        if name in FUNCTIONS:
            return self.function(name)
        raise UnreadableError(f"{text} is not known")

    def argument(self) -> Answer:
        """Return an argument as TeX reads it: a group, one digit, or one command."""
        token = self.token
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            digits = [Token("number", d, False, Number(Fraction(int(d)))) for d in token.text]
            self._tokens[self._at : self._at + 1] = digits
        if token.kind == "name" and len(token.text) > 1:
            self._tokens[self._at : self._at + 1] = [Token("name", letter) for letter in token.text]
        return self.nested(self.atom)

    def root(self) -> Answer:
        """Return a square root, or one with a degree."""
        degree: Answer = Number(Fraction(2))
        if self.accept("["):
            degree = self.nested(self.sum)
            self.expect("]")
        if self.token.kind == "name" and len(self.token.text) > 1 and self.token.text not in NAMES:
            value = self.argument()
        else:
            value = self.nested(self.atom)
        return Apply("root", (value, degree))

    def function(self, name: str) -> Answer:
        r"""Return a function with its argument: ``\sin^2 x``, ``\log_2 8``, ``sqrt(2)``, ``log(8, 2)``."""
        canonical = FUNCTIONS[name]
        base: Answer | None = None
        raised: Answer | None = None
        for _ in range(2):
            if canonical == "log" and self.accept("_"):
                base = self.argument()
            elif self.accept("^"):
                raised = self.nested(self.exponent)
        if self.token.text == "{" and self.token.kind == "sign":
            arguments = [self.nested(self.atom)]
        elif self.token.text == "(":
            self.next()
            arguments, _ = self.nested_items(")")
        elif self.token.text == "|" and canonical != "abs":
            arguments = [self.power()]
        else:
            arguments = [self.bare_argument()]
        if raised == Number(Fraction(-1)) and canonical in {"sin", "cos", "tan"}:
            canonical, raised = f"a{canonical}", None
        if base is not None:
            arguments.append(base)
        if not arguments:
            raise UnreadableError(f"{name} has no argument")
        value: Answer = (
            Apply("root", (arguments[0], Number(Fraction(2))))
            if canonical == "sqrt"
            else Apply(canonical, tuple(arguments))
        )
        return value if raised is None else Apply("pow", (value, raised))

    def bare_argument(self) -> Answer:
        """Return an argument without parentheses: factors up to the next sign or function."""
        if self.accept("-"):
            return negative(self.bare_argument())
        value = self.power()
        while (
            self.starts_factor() and self.token.text not in {"(", "["} and self.token.text.lstrip("\\") not in FUNCTIONS
        ):
            self.forbid_number_after_letter(value)
            value = Apply("mul", (value, self.power()))
        return value

    def sign(self, text: str) -> Answer:
        """Return what a bracket or a bar opens."""
        if text in {"(", "["}:
            return self.brackets(text)
        if text == "{":
            return self.braces("}")
        if text == "|":
            self._bars += 1
            value = self.nested(self.sum)
            self._bars -= 1
            self.expect("|")
            return Apply("abs", (value,))
        if text in {"-", "+"}:
            value = self.nested(self.atom)
            return negative(value) if text == "-" else value
        raise UnreadableError(f"{text!r} is not expected here")


def multiplied(a: Answer, b: Answer) -> Answer:
    """Return the product; of a number and a matrix it is a matrix."""
    if isinstance(b, Matrix) and isinstance(a, Number | Symbol | Apply):
        return Matrix(tuple(tuple(Apply("mul", (a, item)) for item in row) for row in b.rows))
    return Apply("mul", (a, b))

r"""Reads the smallest pieces of arithmetic: numbers, names, LaTeX commands, functions with their arguments, groups.

A few letters in a row may be variables, more are a word and refused.
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
    Number,
    SetOperation,
    Symbol,
    UnreadableError,
    negative,
)

MAX_LETTERS = 3
"""Letters in a row that may be a product of variables."""

SYMBOL_COMMANDS = {f"\\{name}": name for name in GREEK} | {
    f"\\{name}": name for name in ("Gamma", "Delta", "Theta", "Lambda", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell")
}
DECORATED = (
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
LETTER_MARKS = ("\\angle", "\\triangle")


class Atoms(Cursor):
    """The part of the parser below powers. ``arithmetic`` reads sums and powers, ``brackets`` what stands in brackets."""

    @abstractmethod
    def sum(self) -> Answer:
        """Return products joined by plus, minus and plus-minus signs; or dots."""

    @abstractmethod
    def power(self) -> Answer:
        """Return an atom with its exponents, factorials, degrees and percent signs."""

    @abstractmethod
    def exponent(self) -> Answer:
        """Return what a circumflex raises to."""

    @abstractmethod
    def starts_factor(self) -> bool:
        """Return whether the next token can be a factor without a sign before it."""

    @abstractmethod
    def forbid_number_after_letter(self, value: Answer) -> None:
        """Raise ``UnreadableError`` where a number follows something else than a sign."""

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
            return Symbol(f"{base.name}_{self.rest_of_group()}")
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
        if text in LETTER_MARKS:
            return Symbol(f"{name} {self.next().text}")
        if text in DECORATED:
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

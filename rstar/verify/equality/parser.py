r"""Reads LaTeX and plain mathematical text as an answer: one recursive-descent parser over the tokens of ``lexer``.

Strict: letters in a row are a product only when they are few (``6xy``), a number never follows a letter (``May 6``),
and unknown commands are refused. Whatever is refused is compared by ``math_verify`` or as words instead.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.lexer import Token, tokens
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Collection,
    Dots,
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
MAX_NAME_TOKENS = 14
MAX_LETTERS = 3
"""Letters in a row that may be a product of variables."""

_APPLIED = re.compile(r"\\?[A-Za-z]+(?:'|_\{?\w+\}?|\^\{-1\}|\^-1)?\((?:\\?[A-Za-z]+|\d+)(?:,(?:\\?[A-Za-z]+|\d+))*\)")
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~",
}  # fmt: skip
_SYMBOL_COMMANDS = {f"\\{name}": name for name in GREEK} | {
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
_WORD_LISTS = frozenset({"and", "or"})
_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"})
_REALS = SetOperation("union", (Interval(negative(Symbol("infinity")), Symbol("infinity"), False, False),))


def parse(text: str) -> Answer:
    """Return the answer that ``text`` (normalised) writes. Raises ``UnreadableError``."""
    parser = _Parser(tokens(text))
    answer = parser.listing()
    if parser.token.kind != "end":
        raise UnreadableError(f"{parser.token.text!r} is not expected here")
    return answer


class _Parser:
    def __init__(self, sequence: list[Token]) -> None:
        self._tokens = sequence
        self._at = 0
        self._depth = 0
        self._bars = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def accept(self, text: str) -> bool:
        if self.token.text == text and self.token.kind in {"sign", "command"}:
            self._at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise UnreadableError(f"{text!r} is missing")

    # Lists and relations

    def separator(self) -> str:
        """Consume separators: ``,`` ``;`` and the words and, or; return the kind, empty for none."""
        kind = ""
        while True:
            token = self.token
            word = token.text.lower().strip(" ,.") if token.kind in {"text", "name"} else ""
            if token.kind == "sign" and token.text in {",", ";"}:
                kind = kind or ","
            elif token.kind == "sign" and token.text == "&":
                kind = "and"
            elif word in _WORD_LISTS and (token.kind == "text" or len(word) > 1):
                kind = word
            elif kind and token.kind == "text" and not word:
                pass
            else:
                return kind
            self.next()

    def listing(self, closers: tuple[str, ...] = ()) -> Answer:
        """Return one answer, or a bare list; relations joined by and, or are one set."""
        items, kinds = self.items(closers, expand=True)
        if len(items) == 1:
            return items[0]
        if kinds in (["or"] * len(kinds), ["and"] * len(kinds)) and are_sets(items):
            return SetOperation("union" if kinds[0] == "or" else "intersection", tuple(items))
        return Collection("bare", tuple(items))

    def items(self, closers: tuple[str, ...] = (), *, expand: bool = False) -> tuple[list[Answer], list[str]]:
        r"""Return the parts between separators, and the separators; ``closers`` end an empty list.

        ``expand`` gives both values of a part with plus-minus: in a list and in a set, but not in ``(1 \pm 2)/3``.
        """
        items: list[Answer] = []
        kinds: list[str] = []
        if self.token.text in closers:
            return items, kinds
        while True:
            items.extend(self.expanded() if expand else [self.relation()])
            if not (kind := self.separator()):
                return items, kinds
            if self.token.kind == "end" or self.token.text in closers:
                return items, kinds
            kinds.append(kind)

    def expanded(self) -> list[Answer]:
        """Return one item, or both values of one with plus-minus."""
        item = self.relation()
        if not contains(item, "pm"):
            return [item]
        return [replaced(item, 1), replaced(item, -1)]

    def relation(self) -> Answer:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        sides = [self.applied() or self.named() or self.union()]
        signs: list[str] = []
        while self.token.kind in {"sign", "command"} and self.token.text in _RELATIONS:
            signs.append(_RELATIONS[self.next().text])
            sides.append(self.union())
        if not signs and self.token.text == ":" and isinstance(sides[0], Number | Apply | Symbol):
            kind = "ratio"
            while self.accept(":"):
                # 7:05 is a time, 7:5 is a ratio.
                kind = "time" if self.token.kind == "number" and self.token.text.startswith("0") else kind
                sides.append(self.sum())
            self._depth -= 1
            return Collection(kind, tuple(sides))
        self._depth -= 1
        return Relation(tuple(sides), tuple(signs)) if signs else sides[0]

    def applied(self) -> Answer | None:
        """Return ``f(x)``, ``f'(2)``, ``f^{-1}(x)`` or ``P(A)`` before an equals sign as a name; None for anything else."""
        end = self._at
        texts: list[str] = []
        while len(texts) < MAX_NAME_TOKENS and self._tokens[end].kind != "end" and self._tokens[end].text != "=":
            texts.append(self._tokens[end].text)
            end += 1
        name = "".join(texts)
        if self._tokens[end].text != "=" or not _APPLIED.fullmatch(name) or texts[0].lstrip("\\") in FUNCTIONS:
            return None
        self._at = end
        return Symbol(name)

    def named(self) -> Answer | None:
        r"""Return the words before an equals sign (``\text{Area} = 12``) as a name; None for anything else."""
        end = self._at
        while self._tokens[end].kind in {"text", "name"}:
            end += 1
        words = self._tokens[self._at : end]
        if self._tokens[end].text != "=" or not any(t.kind == "text" or len(t.text) > MAX_LETTERS for t in words):
            return None
        if any(t.text in FUNCTIONS or t.text in NAMES or t.text in GREEK or t.text.isdigit() for t in words):
            return None
        self._at = end
        return Symbol(" ".join(t.text for t in words).casefold())

    def union(self) -> Answer:
        parts = [self.sum()]
        name = ""
        while True:
            token = self.token
            if token.text in {r"\cup", r"\cap", r"\setminus"}:
                operation = {r"\cup": "union", r"\cap": "intersection"}.get(token.text, "difference")
            elif token.kind == "name" and token.text == "U" and token.space and is_set(parts[0]):
                operation = "union"
            else:
                break
            if name and operation != name:
                parts = [SetOperation(name, tuple(parts))]
            name = operation
            self.next()
            parts.append(self.sum())
        return SetOperation(name, tuple(parts)) if name else parts[0]

    # Arithmetic

    def sum(self) -> Answer:
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
        token = self.token
        if token.kind == "number":
            return True
        if token.kind == "name":
            return token.text.lower() not in _WORD_LISTS and not (token.text == "U" and token.space)
        if token.kind == "sign":
            return token.text in {"(", "{", "["} or (token.text == "|" and not self._bars)
        if token.kind == "command":
            return (
                token.text in _SYMBOL_COMMANDS
                or token.text in {*_DECORATED, *_LETTER_MARKS}
                or token.text[1:] in FUNCTIONS
                or token.text in {r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\infty", r"\begin", r"\{"}
            )
        return False

    def unary(self) -> Answer:
        if self.accept("-"):
            return negative(self.nested(self.unary))
        if self.accept("+"):
            return self.nested(self.unary)
        return self.power()

    def nested(self, part: object) -> Answer:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        value: Answer = part()  # type: ignore[operator]
        self._depth -= 1
        return value

    def power(self) -> Answer:
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

    # Atoms

    def atom(self) -> Answer:
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
        inner = token.text.strip()
        if len(inner) == 1 and inner.isalpha():
            return self.subscripted(symbol(inner))
        if inner in NAMES or inner in FUNCTIONS:
            return self.name(Token("name", inner))
        raise UnreadableError(f"{inner!r} is text")

    def name(self, token: Token) -> Answer:
        text = token.text
        if text in FUNCTIONS and (text not in {"gamma", "beta", "N"}):
            return self.function(text)
        if text in NAMES:
            return self.subscripted(NAMES[text])
        if text in GREEK:
            return self.subscripted(symbol(text))
        if len(text) > MAX_LETTERS:
            raise UnreadableError(f"{text!r} is a word")
        if len(text) > 1 and not (text.islower() or text.isupper()):
            raise UnreadableError(f"{text!r} is a word")
        if len(text) == 1:
            return self.subscripted(symbol(text))
        # The last letter takes the sub- and superscript, so the others are put back as tokens.
        self._at -= 1
        self._tokens[self._at : self._at + 1] = [Token("name", letter) for letter in text]
        return self.atom()

    def subscripted(self, base: Symbol) -> Symbol:
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
            self.expect(text.replace("l", "r", 1) if text == r"\lceil" else r"\rfloor")
            return Apply("floor" if text == r"\lfloor" else "ceiling", (value,))
        if text == r"\{":
            return self.braces(r"\}")
        if text in {r"\langle"}:
            items, _ = self.items()
            self.expect(r"\rangle")
            return Collection("tuple", tuple(items))
        if text == r"\begin":
            return self.matrix()
        if text in _SYMBOL_COMMANDS:
            return self.subscripted(symbol(_SYMBOL_COMMANDS[text]))
        if name in FUNCTIONS:
            return self.function(name)
        raise UnreadableError(f"{text} is not known")

    def number_set(self) -> Answer:
        self.expect("{")
        letter = self.next().text
        self.expect("}")
        if letter == "R":
            return _REALS
        return Symbol(f"set {letter}")

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

    def nested_items(self, closer: str) -> tuple[list[Answer], list[str]]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        bars, self._bars = self._bars, 0
        found = self.items((closer,))
        self._bars = bars
        self._depth -= 1
        self.expect(closer)
        return found

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
        if text == "(":
            return self.brackets("(")
        if text == "[":
            return self.brackets("[")
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

    def brackets(self, opener: str) -> Answer:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        bars, self._bars = self._bars, 0
        items, _ = self.items((")", "]"))
        self._bars = bars
        self._depth -= 1
        closer = self.next().text
        if closer not in {")", "]"}:
            raise UnreadableError("a bracket is not closed")
        if len(items) == 2 and (opener + closer in {"(]", "[)"}):
            return Interval(items[0], items[1], opener == "[", closer == "]")
        if opener + closer == "()" and len(items) == 1 and not self._trailing_comma():
            return items[0]
        if opener + closer == "()":
            return Collection("tuple", tuple(items))
        if opener + closer == "[]":
            return items[0] if len(items) == 1 and isinstance(items[0], Matrix) else Collection("square", tuple(items))
        raise UnreadableError("brackets do not match")

    def _trailing_comma(self) -> bool:
        return self._tokens[self._at - 2].text == ","

    def braces(self, closer: str) -> Answer:
        if closer == r"\}" and self.peek().text in {"|", ":", r"\in"} and self.token.kind == "name":
            return self.set_builder()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        bars, self._bars = self._bars, 0
        items, _ = self.items((closer,), expand=closer == r"\}")
        self._bars = bars
        self._depth -= 1
        self.expect(closer)
        if len(items) == 1 and closer == "}":
            return items[0]
        return Collection("set", tuple(items))

    def set_builder(self) -> Answer:
        r"""Return the condition of ``\{x | condition\}``."""
        start = self._at
        self.next()
        if self.accept(r"\in"):
            if self.sum() != _REALS:
                raise UnreadableError("a set over other numbers than the reals")
            if self.accept(r"\}"):
                return _REALS
        if not (self.accept("|") or self.accept(":")):
            self._at = start
            raise UnreadableError("a set without a condition")
        condition = self.listing((r"\}",))
        self.expect(r"\}")
        if not is_set(condition):
            raise UnreadableError("a condition that is no relation")
        return condition

    def matrix(self) -> Answer:
        kind = self._group_text()
        if kind not in _MATRICES:
            raise UnreadableError(f"the environment {kind} is not known")
        if kind == "array" and self.token.text == "{":
            self._group_text()
        rows: list[tuple[Answer, ...]] = []
        row: list[Answer] = []
        while True:
            if self.accept(r"\end"):
                if self._group_text() != kind:
                    raise UnreadableError("the end of another environment")
                break
            if self.accept("\\\\"):
                rows.append(tuple(row))
                row = []
                continue
            if self.accept("&"):
                continue
            row.append(self.nested(self.sum))
        if row:
            rows.append(tuple(row))
        if not rows or len({len(r) for r in rows}) != 1 or not rows[0]:
            raise UnreadableError("the rows of a matrix differ in length")
        return Matrix(tuple(rows))

    def _group_text(self) -> str:
        self.expect("{")
        parts = []
        while not self.accept("}"):
            if self.token.kind == "end":
                raise UnreadableError("a brace is not closed")
            parts.append(self.next().text)
        return "".join(parts)


def symbol(name: str) -> Symbol:
    """Return the symbol; e, i and pi are constants of the same name."""
    return Symbol(name)


def multiplied(a: Answer, b: Answer) -> Answer:
    """Return the product; of a number and a matrix it is a matrix."""
    if isinstance(b, Matrix) and isinstance(a, Number | Symbol | Apply):
        return Matrix(tuple(tuple(Apply("mul", (a, item)) for item in row) for row in b.rows))
    return Apply("mul", (a, b))


def is_set(answer: Answer) -> bool:
    """Return whether ``answer`` can be a set of real numbers."""
    match answer:
        case Relation(_, signs):
            return "=" not in signs and "~" not in signs
        case Collection(("tuple" | "square"), items):
            return len(items) == 2
        case Collection("set", _) | Interval() | SetOperation():
            return True
    return False


def are_sets(items: list[Answer]) -> bool:
    """Return whether all items are sets of real numbers, and not all of them points ``(1, 2)``."""
    return all(map(is_set, items)) and any(
        not isinstance(item, Collection) or any("infinity" in str(end) for end in item.items) for item in items
    )


def contains(answer: Answer, name: str) -> bool:
    """Return whether an operation ``pm`` (or its opposite ``mp``) is in an expression or relation."""
    match answer:
        case Apply(own, arguments):
            return own in {name, "mp"} or any(contains(a, name) for a in arguments)
        case Relation(parts, _) | Collection("tuple", parts):
            return any(contains(part, name) for part in parts)
    return False


def replaced(answer: Answer, sign: int) -> Answer:
    """Return ``answer`` with the upper signs (1) or the lower ones (-1)."""
    match answer:
        case Apply(("pm" | "mp") as own, (argument,)):
            inner = replaced(argument, sign)
            return inner if (own == "pm") == (sign > 0) else negative(inner)
        case Apply(own, arguments):
            return Apply(own, tuple(replaced(a, sign) for a in arguments))
        case Relation(sides, signs):
            return Relation(tuple(replaced(side, sign) for side in sides), signs)
        case Collection("tuple", items):
            return Collection("tuple", tuple(replaced(item, sign) for item in items))
    return answer


__all__ = ["Words", "parse"]

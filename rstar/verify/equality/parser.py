r"""Reads LaTeX and plain mathematical text as an answer: one recursive-descent parser over the tokens of ``lexer``.

This module reads lists, relations, brackets, sets and matrices; ``arithmetic`` reads what stands in them. Unknown
commands are refused. Whatever is refused is compared as words instead, or by ``calculus``.
"""

from __future__ import annotations

import re

from rstar.verify.equality.arithmetic import MAX_LETTERS, WORD_LISTS, Arithmetic
from rstar.verify.equality.cursor import MAX_DEPTH
from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.lexer import tokens
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.plus_minus import contains, replaced
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

MAX_NAME_TOKENS = 14
_APPLIED = re.compile(r"\\?[A-Za-z]+(?:'|_\{?\w+\}?|\^\{-1\}|\^-1)?\((?:\\?[A-Za-z]+|\d+)(?:,(?:\\?[A-Za-z]+|\d+))*\)")
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~",
}  # fmt: skip
_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"})
_REALS = SetOperation("union", (Interval(negative(Symbol("infinity")), Symbol("infinity"), False, False),))


def parse(text: str) -> Answer:
    """Return the answer that ``text`` (normalised) writes. Raises ``UnreadableError``."""
    parser = _Parser(tokens(text))
    answer = parser.listing()
    if parser.token.kind != "end":
        raise UnreadableError(f"{parser.token.text!r} is not expected here")
    return answer


class _Parser(Arithmetic):
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
            elif word in WORD_LISTS and (token.kind == "text" or len(word) > 1):
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

    def word(self) -> Words | None:
        """Return letters that stand alone as a word: in a list, ``cat`` is no product of c, a and t."""
        token, after = self.token, self.peek()
        if token.kind != "name" or len(token.text) == 1 or token.text in {*FUNCTIONS, *NAMES, *GREEK, *WORD_LISTS}:
            return None
        separated = after.kind == "end" or after.text in {",", ";"} or after.text.lower() in WORD_LISTS
        last = after.text in {")", "]", r"\}"} and self._tokens[self._at - 1].text in {",", ";"}
        if not separated and not last:
            return None
        return Words(self.next().text.casefold())

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

    def relation(self) -> Answer:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        if (word := self.word()) is not None:
            self._depth -= 1
            return word
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

    def number_set(self) -> Answer:
        self.expect("{")
        letter = self.next().text
        self.expect("}")
        if letter == "R":
            return _REALS
        return Symbol(f"set {letter}")


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

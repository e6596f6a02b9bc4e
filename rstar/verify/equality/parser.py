r"""Reads LaTeX and plain mathematical text as an answer: one recursive-descent parser over the tokens of ``lexer``.

This module reads lists and relations; ``brackets``, ``arithmetic`` and ``atoms`` read what stands in them. Unknown commands
are refused. Whatever is refused is compared as words instead, or by ``calculus``.
"""

from __future__ import annotations

import re

from rstar.verify.equality.arithmetic import WORD_LISTS
from rstar.verify.equality.atoms import MAX_LETTERS
from rstar.verify.equality.brackets import Brackets, are_sets, is_set
from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.lexer import tokens
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.plus_minus import contains, replaced
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Collection,
    Number,
    Relation,
    SetOperation,
    Symbol,
    UnreadableError,
    Words,
)

MAX_NAME_TOKENS = 14
_APPLIED = re.compile(r"\\?[A-Za-z]+(?:'|_\{?\w+\}?|\^\{-1\}|\^-1)?\((?:\\?[A-Za-z]+|\d+)(?:,(?:\\?[A-Za-z]+|\d+))*\)")
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~",
}  # fmt: skip


def parse(text: str) -> Answer:
    """Return the answer that ``text`` (normalised) writes. Raises ``UnreadableError``."""
    parser = _Parser(tokens(text))
    answer = parser.listing()
    if parser.token.kind != "end":
        raise UnreadableError(f"{parser.token.text!r} is not expected here")
    return answer


class _Parser(Brackets):
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
            items.extend(self.expanded() if expand else [self.nested(self.relation)])
            if not (kind := self.separator()):
                return items, kinds
            if self.token.kind == "end" or self.token.text in closers:
                return items, kinds
            kinds.append(kind)

    def expanded(self) -> list[Answer]:
        """Return one item, or both values of one with plus-minus."""
        item = self.nested(self.relation)
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
        if (word := self.word()) is not None:
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
            return Collection(kind, tuple(sides))
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

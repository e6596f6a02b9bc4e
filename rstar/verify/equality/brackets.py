r"""Reads what stands in brackets: groups, tuples, intervals, sets, matrices; and the sets that one letter names."""

from __future__ import annotations

from abc import abstractmethod

from rstar.verify.equality.arithmetic import Arithmetic
from rstar.verify.equality.tree import (
    Answer,
    Collection,
    Interval,
    Matrix,
    Relation,
    SetOperation,
    Symbol,
    UnreadableError,
    negative,
)

_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"})
_REALS = SetOperation("union", (Interval(negative(Symbol("infinity")), Symbol("infinity"), False, False),))


class Brackets(Arithmetic):
    """The part of the parser between brackets; the lists in them are read by ``parser``."""

    @abstractmethod
    def listing(self, closers: tuple[str, ...] = ()) -> Answer:
        """Return one answer, or a bare list."""

    def nested_items(self, closer: str) -> tuple[list[Answer], list[str]]:
        """Return the parts up to a closing bracket, which is read, and the separators between them."""
        found = self._inner((closer,))
        self.expect(closer)
        return found

    def _inner(self, closers: tuple[str, ...], *, expand: bool = False) -> tuple[list[Answer], list[str]]:
        """Return the same up to a closing bracket, which is not read. A bar inside opens an absolute value."""
        bars, self._bars = self._bars, 0
        found = self.nested(lambda: self.items(closers, expand=expand))
        self._bars = bars
        return found

    def brackets(self, opener: str) -> Answer:
        """Return what ``(`` or ``[`` opens: a group, a tuple, an interval, a list or a matrix."""
        items, _ = self._inner((")", "]"))
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
        """Return a group or a set."""
        if closer == r"\}" and self.peek().text in {"|", ":", r"\in"} and self.token.kind == "name":
            return self.set_builder()
        items, _ = self._inner((closer,), expand=closer == r"\}")
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
        """Return a matrix, from behind its ``begin``."""
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
        return self.rest_of_group()

    def number_set(self) -> Answer:
        """Return the set that a blackboard letter names."""
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

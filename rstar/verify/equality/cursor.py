"""A position in a list of tokens, with a bound on the nesting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rstar.verify.equality.lexer import Token
from rstar.verify.equality.tree import UnreadableError

MAX_DEPTH = 60

T = TypeVar("T")


class Cursor:
    """Reads tokens one by one; parsers are built on it."""

    def __init__(self, sequence: list[Token]) -> None:
        self._tokens = sequence
        self._at = 0
        self._depth = 0
        self._bars = 0

    @property
    def token(self) -> Token:
        """Return the next token without reading it."""
        return self._tokens[self._at]

    def next(self) -> Token:
        """Read one token; the end stays."""
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def peek(self, ahead: int = 1) -> Token:
        """Return a later token."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def accept(self, text: str) -> bool:
        """Read the sign or command ``text`` if it is next; return whether it was."""
        if self.token.text == text and self.token.kind in {"sign", "command"}:
            self._at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Read ``text``. Raises ``UnreadableError`` when something else is next."""
        if not self.accept(text):
            raise UnreadableError(f"{text!r} is missing")

    def rest_of_group(self) -> str:
        """Return the text up to the closing brace, which is read."""
        parts = []
        while not self.accept("}"):
            if self.token.kind == "end":
                raise UnreadableError("a brace is not closed")
            parts.append(self.next().text)
        return "".join(parts)

    def nested(self, part: Callable[[], T]) -> T:
        """Return what ``part`` reads, one level deeper. Raises ``UnreadableError`` when that is too deep."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("the nesting is too deep")
        value = part()
        self._depth -= 1
        return value

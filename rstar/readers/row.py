"""A decoded row: its fields by name, whatever the case of the names, and the error of a row that is no problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Row = Mapping[str, Any]

ID_KEYS: Final = ("id", "unique_id")


class RowError(Exception):
    """A row is not a problem; the message is what is wrong and how to mend it."""


class Fields:
    """The fields of a row by their names in small letters. A field that is null or blank counts as absent in ``find``."""

    def __init__(self, row: Row) -> None:
        self._row = row
        # A name in small letters comes before the same one in others.
        self._by_name = {**{key.lower(): value for key, value in row.items()}, **row}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Any:
        """Return a field's value; None where it is absent."""
        return self._by_name.get(name)

    def find(self, *names: str) -> tuple[str, Any] | None:
        """Return the first of the fields that has a value, with its name."""
        for name in names:
            value = self._by_name.get(name)
            if value is not None and not (isinstance(value, str) and not value.strip()):
                return name, value
        return None

    def any(self, *names: str) -> str | None:
        """Return the first of the names that the row has, whatever its value."""
        return next((name for name in names if name in self._by_name), None)

    def missing(self, *names: str, hint: str) -> RowError:
        """Return the error of a row that has none of these fields."""
        has = ", ".join(map(repr, self._row)) or "nothing"
        return RowError(f"no {' or '.join(map(repr, names))} (the row has {has}): {hint}")

    @property
    def id(self) -> str | None:
        """The row's own id; None where it has none. Raises ``RowError`` for one that is no text or integer."""
        for key in ID_KEYS:
            value = self.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
                raise RowError(f"'{key}' is {value!r}: make it a non-empty string or an integer, or leave it out")
            return str(value)
        return None


def kind(value: Any) -> str:
    """Return the JSON type of a value, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"{value!r}")

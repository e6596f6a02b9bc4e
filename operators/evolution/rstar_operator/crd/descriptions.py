"""The descriptions of fields in the CRD, with bounds and defaults, which ``kubectl explain`` does not show by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rstar.rounds.reference import PAPER_ROUNDS
from rstar.rounds.spec import RolloutSearch, paper_search

_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def describe(node: Mapping[str, Any], about: str) -> str:
    """Return the description of a field; ``about`` is the docstring of the model in it, or empty."""
    own = plain(node.get("description", ""))
    parts = [own, plain(about) if plain(about) != own else "", _bounds(node), _default(node)]
    return " ".join(part for part in parts if part)


def plain(docstring: str) -> str:
    """Return a docstring as one line without markup."""
    return " ".join(docstring.replace("``", "").split())


def paper_searches() -> str:
    """Return the default of ``rollout.search``, which depends on the round's number, one line per round."""
    return "\n".join(_paper_line(number) for number in PAPER_ROUNDS)


def _paper_line(number: int) -> str:
    search = paper_search(number)
    changed = {
        field.alias: getattr(search, name)
        for name, field in RolloutSearch.model_fields.items()
        if name in {"rollouts", "candidates"} or getattr(search, name) != field.get_default(call_default_factory=True)
    }
    values = (f"{key} {list(value) if isinstance(value, tuple) else value}" for key, value in changed.items())
    return f"  round {number}{' on' if number == PAPER_ROUNDS[-1] else ''}: {', '.join(values)}"


def _bounds(node: Mapping[str, Any]) -> str:
    return _sentence(f"{word} {_number(node[key])}" for key, word in _BOUNDS.items() if key in node)


def _default(node: Mapping[str, Any]) -> str:
    value = node.get("default")
    if isinstance(value, bool):
        return f"Default {str(value).lower()}."
    if value != "" and isinstance(value, int | float | str):
        return f"Default {value if isinstance(value, str) else _number(value)}."
    return ""


def _sentence(parts: Iterator[str]) -> str:
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _number(value: float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "2^63" if value == 2**63 else str(value)

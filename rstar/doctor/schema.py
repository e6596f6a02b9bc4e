"""Compares a kind's schema on a cluster with the one of this code. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_COMPARED: Final = ("type", "enum", "default", "minimum", "maximum", "pattern", "required")
"""What the API server's published schema keeps of a property; descriptions say nothing about what it accepts."""


def schema_digest(schema: Schema) -> str:
    """Return 12 hex digits that name a schema."""
    return hashlib.sha256(json.dumps(_plain(schema), sort_keys=True).encode()).hexdigest()[:12]


def difference(own: Schema, found: Schema) -> str:
    """Return the first difference as one phrase, '' where the schemas accept the same.

    Descriptions do not count. Validation rules count where ``found`` has any: the published schema has none.
    """
    mine, theirs = dict(_properties(own)), dict(_properties(found))
    if lacking := sorted(mine.keys() - theirs.keys()):
        return f"the cluster does not know {lacking[0]}"
    if more := sorted(theirs.keys() - mine.keys()):
        return f"this code does not know {more[0]}"
    for path, values in mine.items():
        for key in _COMPARED:
            if values.get(key) != theirs[path].get(key):
                return f"{path or 'the whole'} has another {key}"
    rules = "x-kubernetes-validations"
    if any(rules in value for value in theirs.values()):
        for path, values in mine.items():
            if values.get(rules) != theirs[path].get(rules):
                return f"{path or 'the whole'} has other validation rules"
    return ""


def _properties(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every property below ``spec`` with its path; items of lists are ``[]``, values of maps ``*``."""
    yield path, schema
    for name, inner in (schema.get("properties") or {}).items():
        if path or name == "spec":
            yield from _properties(inner, f"{path}.{name}".lstrip("."))
    if isinstance(items := schema.get("items"), Mapping):
        yield from _properties(items, f"{path}[]")
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        yield from _properties(values, f"{path}.*")


def _plain(value: Any) -> Any:
    """Return JSON with one form per number, and no descriptions: 1.0 and 1 are the same bound."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if key != "description" or not isinstance(item, str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

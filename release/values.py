"""Write values into a chart's values.yaml without losing its comments."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from release.errors import ReleaseError

_KEY: Final = re.compile(r"^( *)([\w-]+):(?: (.*))?$")


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Return values.yaml with these strings, by dotted key such as ``images.policy.tag``; all else stays.

    Raises :class:`ReleaseError` for a key that the file does not have on a line of its own.
    """
    wanted, path, lines = dict(values), list[tuple[int, str]](), []
    for line in text.splitlines():
        if found := _KEY.match(line):
            indentation = len(found[1])
            path = [*((depth, key) for depth, key in path if depth < indentation), (indentation, found[2])]
            key = ".".join(key for _, key in path)
            if found[3] is not None and key in wanted:
                lines.append(f'{found[1]}{found[2]}: "{wanted.pop(key)}"')
                continue
        lines.append(line)
    new = "\n".join(lines) + "\n"
    if wanted or yaml.safe_load(new) != _expected(yaml.safe_load(text), values):
        raise ReleaseError(
            f"values.yaml has no line for {', '.join(wanted or values)}: give each key a line of its own."
        )
    return new


def _expected(document: Any, values: Mapping[str, str]) -> Any:
    document = copy.deepcopy(document)
    for key, value in values.items():
        *parents, last = key.split(".")
        place = document
        for parent in parents:
            place = place.get(parent, {})
        place[last] = value
    return document

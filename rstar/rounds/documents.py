"""The YAML documents of a file, with the line of every value, read as an API server reads them.

YAML has values that mean different things to different programs, or that JSON cannot hold: a key given twice, 014,
1_000, .inf, 1:30. Such a value is a fault with its line here, before a laptop and a cluster can disagree on it. Numbers
with an exponent (7e-6) are numbers, and dates are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from rstar.rounds.validation_errors import dotted

MOST_VALUES: Final = 100_000
"""A document of a round has some hundreds of values; aliases of aliases multiply them."""

Location = tuple[int | str, ...]
"""The keys and list positions from the top of a document to a value."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document as plain data; ``lines`` has the line, from 1, of each key and list entry."""

    content: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int | None:
        """Return the line of a value, or of the nearest one around it that the file has."""
        places = (location[:length] for length in range(len(location), -1, -1))
        return next((self.lines[place] for place in places if place in self.lines), None)


class YamlError(ValueError):
    """A text that is not usable YAML. ``faults``: one sentence each, with its line or None."""

    def __init__(self, faults: list[tuple[int | None, str]]) -> None:
        super().__init__("\n".join(fault for _, fault in faults))
        self.faults = faults


def read_documents(text: str) -> list[Document]:
    """Return the documents of ``text`` that are not empty. Raises ``YamlError`` with all faults of the values."""
    documents: list[Document] = []
    faults: list[tuple[int | None, str]] = []
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            if node is not None:
                reader = _Reader()
                content = reader.value(node, ())
                faults += reader.faults
                documents += [Document(content, reader.lines)] if content is not None else []
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise YamlError([*faults, (mark.line + 1 if mark else None, f"is not YAML{where}: {problem}")]) from None
    except RecursionError:
        raise YamlError([*faults, (None, "is nested too deeply")]) from None
    if faults:
        raise YamlError(faults)
    return documents


def documents_text(contents: Iterable[Any]) -> str:
    """Return plain data as the text that ``read_documents`` gives back."""
    text: str = yaml.dump_all(contents, Dumper=_Dumper, sort_keys=False)
    return text


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of the API server's reader."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    "int": (r"[-+]?(0[box][0-9A-Fa-f_]+|[0-9][0-9_]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_TRUE: Final = {"yes", "true", "on"}


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what ``_Loader`` would read as something else than text: PyYAML itself writes 123e45 as it is."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


class _Reader:
    """Turns the nodes of one document into plain data, and notes lines and faults."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.faults: list[tuple[int | None, str]] = []
        self._values = 0

    def value(self, node: yaml.Node, at: Location) -> Any:
        """Return the data of ``node``, which is at the location ``at``."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise YamlError([(_line(node), f"the document has more than {MOST_VALUES:,} values, with its aliases")])
        self.lines.setdefault(at, _line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*at, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, at)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = {**self._merged(value_node, at), **merged}
                continue
            key = key_node.value
            if key_node.tag != "tag:yaml.org,2002:str":
                shown = key if isinstance(key, str) else "a list or a mapping"
                self._fault(key_node, at, f"the key {shown} is not text: put it into quotes")
                continue
            if key in own:
                first = self.lines[*at, key]
                self._fault(key_node, (*at, key), f"the key is given twice, first in line {first}: remove one of them")
                continue
            self.lines[*at, key] = _line(key_node)
            own[key] = self.value(value_node, (*at, key))
        return merged | own

    def _merged(self, node: yaml.Node, at: Location) -> dict[str, Any]:
        """Return the keys that ``<<`` adds: those of a mapping, or of a list of mappings, the first before the others."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for item in nodes:
            if isinstance(item, yaml.MappingNode):
                found = {**self._mapping(item, at), **found}
            else:
                self._fault(item, at, "<< is not followed by a mapping: give it an alias of one")
        return found

    def _scalar(self, node: yaml.Node, at: Location) -> Any:
        text, kind = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in _TRUE
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "int":
                self._fault(
                    node,
                    at,
                    f"{text} is another number in other programs: write it in decimal, without 0 in front and without _, or in quotes",
                )
            case "float" if math.isfinite(number := float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))):
                return number
            case "float":
                self._fault(node, at, f"{text} is not a finite number: give one, or leave the key out")
            case _:
                self._fault(node, at, f"the tag {node.tag} is not allowed: write the value without it")
        return None

    def _fault(self, node: yaml.Node, at: Location, fault: str) -> None:
        self.faults.append((_line(node), f"{dotted(at)}: {fault}"))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1

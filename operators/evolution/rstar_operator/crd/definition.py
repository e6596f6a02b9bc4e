"""The parts of a CustomResourceDefinition that our kinds have in common, and its text in the chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from rstar.cluster.names import GROUP, VERSION
from rstar_operator.crd.rules import Rule
from rstar_operator.crd.schema import Schema

Column = tuple[str, str, str, str, int]
"""Name, type, path, description and priority of a printer column; priority 1 is shown by ``-o wide`` only."""

HEADER: Final = """\
# The resource {kind}. Generated from the models in rstar/rounds by
#   python -m rstar_operator.crd charts/rstar/files
# and a test keeps it current.
"""


READY: Final = '.status.conditions[?(@.type=="Ready")]'
"""The path of the condition Ready, for columns."""


def definition(kind: str, plural: str, short: str, columns: Iterable[Column], schema: Schema) -> dict[str, Any]:
    """Return a CustomResourceDefinition as plain data; ``short``: the kind's short name."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            # An uninstalled chart must not take every round, and with it every record of finished work, with it.
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/part-of": "rstar"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": plural.removesuffix("s"),
                "shortNames": [short],
                "categories": ["all", "rstar"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def object_schema(description: str, kind: str, spec: Schema, status: Schema, rules: Iterable[Rule]) -> Schema:
    """Return the schema of a whole object."""
    return {
        "description": description,
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": [rule.plain() for rule in rules],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Always {kind}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def definition_yaml(crd: Mapping[str, Any]) -> str:
    """Return a CustomResourceDefinition as the chart stores it."""
    header = HEADER.format(kind=crd["spec"]["names"]["kind"])
    return header + yaml.dump(dict(crd), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, and no YAML references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)

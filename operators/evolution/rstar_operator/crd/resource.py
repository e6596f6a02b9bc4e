"""The CustomResourceDefinition: names, versions, printer columns, and the schema.

``charts/rstar/files/evolutionrounds.yaml`` is this text; a test compares the two. The models describe the fields.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from rstar.rounds.spec import API_VERSION, KIND, MUTABLE, EvolutionRoundSpec, RolloutSpec
from rstar.rounds.status import RoundStatus
from rstar_operator.crd.descriptions import paper_searches
from rstar_operator.crd.rules import ROOT_RULES
from rstar_operator.crd.schema import Schema, structural

GROUP, VERSION = API_VERSION.split("/")
PLURAL: Final = "evolutionrounds"

_HEADER: Final = """\
# The EvolutionRound resource. Generated from rstar/rounds/spec.py and rstar/rounds/status.py by
#   python -m rstar_operator.crd > charts/rstar/files/evolutionrounds.yaml
# and a test keeps it current.
"""

_KIND: Final = """\
One round of self-evolution: search over the training problems with a policy and, from some round on, its \
preference model (PPM); selection of the training data; fine-tuning of the next policy; training of the next PPM; \
evaluation.

The smallest first round, and the one after it:

    apiVersion: rstar.dev/v1alpha1
    kind: EvolutionRound
    metadata: {name: r1}
    spec:
      round: 1
      baseModel: store:models/base
      problems: {uri: "store:data/train.jsonl"}
    ---
    apiVersion: rstar.dev/v1alpha1
    kind: EvolutionRound
    metadata: {name: r2}
    spec:
      round: 2
      previousRound: r1
      baseModel: store:models/base
      problems: {uri: "store:data/train.jsonl"}

How to go on:

    kubectl get er -w           which round, what stage, how far, and why
    kubectl describe er r1      conditions, stages, attempts, events
    kubectl explain er.spec     what may be set, with bounds and defaults
    rstar logs r1               what the running stage says
    rstar suspend r1            release all compute; rstar resume r1: go on
    rstar cancel r1             end it for good; finished work is kept"""

_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS: Final = (
    ("Round", "integer", ".spec.round", "Number of the round.", 0),
    ("Stage", "string", ".status.stage", "The stage at work or next.", 0),
    ("Progress", "string", ".status.progressText", "How far the running stage is.", 0),
    ("Solved %", "string", ".status.solvedPercent", "Share of the training problems solved.", 0),
    ("Ready", "string", f"{_READY}.status", "Whether a stage runs or all are done.", 0),
    ("Reason", "string", f"{_READY}.reason", "Why, or why not.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the round was created.", 0),
    ("Phase", "string", ".status.phase", "One word for the state.", 1),
    ("Message", "string", ".status.message", "One sentence for the state.", 1),
)


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            # An uninstalled chart must not take every round, and with it every record of finished work, with it.
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/part-of": "rstar"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": PLURAL.removesuffix("s"),
                "shortNames": ["er"],
                "categories": ["all", "rstar"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def crd_yaml() -> str:
    """Return the CustomResourceDefinition as the chart stores it."""
    body = yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return _HEADER + body


def _schema() -> Schema:
    spec = structural(EvolutionRoundSpec, defaults=True)
    search = spec["properties"]["rollout"]["properties"]["search"]
    search["description"] = (
        f"{(RolloutSpec.model_fields['search'].description or '').rstrip('.')}:\n\n{paper_searches()}"
    )
    spec["description"] += f" Once created, only {', '.join(sorted(MUTABLE))} may change."
    status = structural(RoundStatus, defaults=False)
    status["description"] = "What has been done, as the operator last saw it."
    return {
        "description": _KIND,
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": [rule.plain() for rule in ROOT_RULES],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


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

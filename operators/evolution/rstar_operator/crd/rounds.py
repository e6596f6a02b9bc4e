"""The CustomResourceDefinition of EvolutionRound: names, printer columns, and the schema. The models describe the fields."""

from __future__ import annotations

from typing import Any, Final

from rstar.cluster.names import PLURAL
from rstar.rounds.spec import KIND, MUTABLE, EvolutionRoundSpec, RolloutSpec
from rstar.rounds.status import RoundStatus
from rstar_operator.crd.definition import READY, Column, definition, object_schema
from rstar_operator.crd.descriptions import paper_searches
from rstar_operator.crd.rules import ROOT_RULES
from rstar_operator.crd.schema import Schema, structural

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

_COLUMNS: Final[tuple[Column, ...]] = (
    ("Round", "integer", ".spec.round", "Number of the round.", 0),
    ("Stage", "string", ".status.stage", "The stage at work or next.", 0),
    ("Progress", "string", ".status.progressText", "How far the running stage is.", 0),
    ("Solved %", "string", ".status.solvedPercent", "Share of the training problems solved.", 0),
    ("Ready", "string", f"{READY}.status", "Whether a stage runs or all are done.", 0),
    ("Reason", "string", f"{READY}.reason", "Why, or why not.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the round was created.", 0),
    ("Phase", "string", ".status.phase", "One word for the state.", 1),
    ("Message", "string", ".status.message", "One sentence for the state.", 1),
)


def round_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    return definition(KIND, PLURAL, "er", _COLUMNS, _schema())


def _schema() -> Schema:
    spec = structural(EvolutionRoundSpec, defaults=True)
    search = spec["properties"]["rollout"]["properties"]["search"]
    search["description"] = (
        f"{(RolloutSpec.model_fields['search'].description or '').rstrip('.')}:\n\n{paper_searches()}"
    )
    spec["description"] += f" Once created, only {', '.join(sorted(MUTABLE))} may change."
    status = structural(RoundStatus, defaults=False)
    status["description"] = "What has been done, as the operator last saw it."
    return object_schema(_KIND, KIND, spec, status, ROOT_RULES)

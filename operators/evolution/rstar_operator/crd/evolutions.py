"""The CustomResourceDefinition of Evolution: names, printer columns, and the schema.

The template has the fields of an EvolutionRound's spec without defaults and rules: the API server checks those when the
operator makes the rounds, and the operator asks it about all rounds before the first.
"""

from __future__ import annotations

from typing import Any, Final

from rstar.cluster.names import EVOLUTIONS_PLURAL
from rstar.rounds.evolution_spec import KIND, NOT_IN_TEMPLATE, REQUIRED_IN_TEMPLATE, EvolutionSpec
from rstar.rounds.evolution_status import EvolutionStatus
from rstar.rounds.spec import EvolutionRoundSpec
from rstar_operator.crd.definition import READY, Column, definition, object_schema
from rstar_operator.crd.rules import EVOLUTION_ROOT_RULES
from rstar_operator.crd.schema import Schema, structural

_KIND: Final = """\
Several rounds of self-evolution from one template, each from the one before it. The operator makes one EvolutionRound \
after the other, NAME-r1, NAME-r2, and so on; deleting the evolution deletes them.

The smallest one, with the paper's settings of each round:

    apiVersion: rstar.dev/v1alpha1
    kind: Evolution
    metadata: {name: sums}
    spec:
      rounds: 4
      template:
        baseModel: store:models/base
        problems: {uri: "store:data/train.jsonl"}

How to go on:

    kubectl get evo -w          which round, how far, what each round reached, and why
    kubectl get er -l rstar.dev/evolution=sums
    kubectl explain evo.spec    what may be set
    kubectl patch evo sums --type merge -p '{"spec":{"suspend":true}}'   release all compute"""

_COLUMNS: Final[tuple[Column, ...]] = (
    ("Rounds", "string", ".status.roundsText", "Finished rounds of all.", 0),
    ("Stage", "string", ".status.stage", "The stage of the round at work.", 0),
    ("Progress", "string", ".status.progressText", "How far that stage is.", 0),
    ("Solved %", "string", ".status.solvedPercent", "Share of the training problems solved, by round.", 0),
    ("Accuracy %", "string", ".status.accuracyPercent", "Accuracy of the evaluation, by round.", 0),
    ("Ready", "string", f"{READY}.status", "Whether a stage runs or all rounds are done.", 0),
    ("Reason", "string", f"{READY}.reason", "Why, or why not.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the evolution was created.", 0),
    ("Phase", "string", ".status.phase", "One word for the state.", 1),
    ("Message", "string", ".status.message", "One sentence for the state.", 1),
)


def evolution_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    return definition(KIND, EVOLUTIONS_PLURAL, "evo", _COLUMNS, _schema())


def _schema() -> Schema:
    spec = structural(EvolutionSpec, defaults=True)
    about = spec["properties"]["template"]["description"]
    template = structural(EvolutionRoundSpec, defaults=False, partial=True)
    for key in NOT_IN_TEMPLATE:
        del template["properties"][key]
    spec["properties"]["template"] = {**template, "description": about, "required": sorted(REQUIRED_IN_TEMPLATE)}
    status = structural(EvolutionStatus, defaults=False)
    status["description"] = "What has been done, as the operator last saw it."
    return object_schema(_KIND, KIND, spec, status, EVOLUTION_ROOT_RULES)

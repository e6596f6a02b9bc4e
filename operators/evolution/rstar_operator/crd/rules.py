"""Checks beyond types and bounds that the API server makes, as CEL rules with one sentence each.

They are the checks of ``rstar.rounds.spec`` and ``rstar.rounds.load`` that need one round only, and those of a cluster:
fields that finished work depends on do not change, and URIs must be readable by pods. The operator checks everything
that needs more than the round (is the previous round the one before, is the verifier installed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rstar.rounds.evolution_spec import EVOLUTION_NAME_LENGTH
from rstar.rounds.spec import MUTABLE, NAME_LENGTH, NAME_PATTERN, EvolutionRoundSpec

_UPLOAD: Final = "use store:PATH or hf:ORG/NAME; `rstar submit` uploads local files"


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL expression that must hold, and the error message when it does not.

    ``message`` is text; with ``computed`` it is CEL that returns the text. ``at`` is the field that the error names.
    """

    rule: str
    message: str
    at: str = ""
    computed: bool = False
    reason: str = "FieldValueInvalid"

    def plain(self) -> dict[str, Any]:
        """Return the rule in the form of the CRD."""
        found = {
            "rule": self.rule,
            "messageExpression" if self.computed else "message": self.message,
            "reason": self.reason,
        }
        return found | ({"fieldPath": self.at} if self.at else {})


def _unchanged(name: str) -> Rule:
    """Return the rule that a field of the spec never changes; an optional one is neither added nor removed."""
    field = EvolutionRoundSpec.model_fields[name]
    key = field.alias or name
    optional = not field.is_required() and field.get_default(call_default_factory=True) is None
    same = f"self.{key} == oldSelf.{key}"
    if optional:
        same = f"has(self.{key}) == has(oldSelf.{key}) && (!has(self.{key}) || {same})"
    if key == "evaluate":  # a list map: two lists in another order are equal
        same += " && self.evaluate.methods.map(m, m.name) == oldSelf.evaluate.methods.map(m, m.name)"
    return Rule(
        same, f"spec.{key} cannot change after creation: create a new round", f".{key}", reason="FieldValueForbidden"
    )


def _on_the_cluster(field: str, path: str, *, optional: bool = False) -> Rule:
    """Return the rule that pods can read a URI."""
    absent = f"!has(self.{field}) || " if optional else ""
    return Rule(
        f"{absent}self.{field}.startsWith('store:') || self.{field}.startsWith('hf:')",
        f"'{path} is ' + self.{field} + ', which pods cannot read: {_UPLOAD}'",
        f".{field}",
        computed=True,
    )


_VOTES: Final = Rule(
    "!has(self.voteTop) || !(self.method in ['mcts', 'beam']) || self.voteTop <= self.trajectories",
    "voteTop must be at most trajectories, for each trajectory has one vote",
    ".voteTop",
)

_ONE_SIZE: Final = Rule(
    "!has(self.replicas) || !has(self.autoscaling)",
    "replicas and autoscaling exclude each other: remove one of them",
)

_ORDER: Final = Rule(
    "self.minReplicas <= self.maxReplicas", "minReplicas must be at most maxReplicas: lower it or raise maxReplicas"
)

_TRAINING: Final = (
    Rule(
        "!has(self.lora) || !self.fsdp",
        "lora and fsdp exclude each other: LoRA has few states to shard; remove one of them",
    ),
    Rule(
        "!has(self.attention) || self.attention != 'flash_attention_2' || self.precision == 'bfloat16'",
        "attention flash_attention_2 needs precision: bfloat16",
        ".attention",
    ),
)

ROOT_RULES: Final = (
    Rule(
        f"size(self.metadata.name) <= {NAME_LENGTH}",
        f"metadata.name must have at most {NAME_LENGTH} characters, for pods append a suffix: shorten it",
    ),
    Rule(
        f"self.metadata.name.matches('{NAME_PATTERN}')",
        "metadata.name must begin with a small letter and have small letters, digits and '-' only",
    ),
    Rule(
        "!has(self.spec.previousRound) || self.spec.previousRound != self.metadata.name",
        "spec.previousRound must not be the round's own name: name the round before it",
        ".spec.previousRound",
    ),
)

EVOLUTION_ROOT_RULES: Final = (
    Rule(
        f"size(self.metadata.name) <= {EVOLUTION_NAME_LENGTH}",
        f"metadata.name must have at most {EVOLUTION_NAME_LENGTH} characters, for its rounds and their pods append suffixes: shorten it",
    ),
    ROOT_RULES[1],
)

RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "EvolutionSpec": (
        _on_the_cluster("template.baseModel", "spec.template.baseModel"),
        Rule(
            "!has(self.perRound) || self.perRound.all(changes, changes.round <= self.rounds)",
            "perRound names a round above rounds: remove it or raise rounds",
            ".perRound",
        ),
        Rule(
            "!has(oldSelf.cancel) || !oldSelf.cancel || has(self.cancel) && self.cancel",
            "spec.cancel cannot be undone: create a new evolution",
        ),
    ),
    "EvolutionRoundSpec": (
        Rule(
            "self.round > 1 || !has(self.previousRound)",
            "round 1 starts from the base model: remove previousRound or raise round",
            ".previousRound",
        ),
        Rule(
            "self.round == 1 || has(self.previousRound)",
            "every round after the first needs previousRound: the name of the round before it",
            ".previousRound",
        ),
        Rule(
            "self.round > 1 || self.preferenceModel.use != 'always'",
            "always needs the PPM of a previous round, and round 1 has none: use auto or never",
            ".preferenceModel.use",
        ),
        Rule(
            "self.preferenceModel.use != 'never' || self.evaluate.methods.all(m, m.guidance != 'ppm')",
            "a method is guided by a PPM, but preferenceModel.use is never, so the round trains none: use auto or remove the method",
            ".evaluate.methods",
        ),
        Rule(
            "!has(self.rollout.promptFile) || (has(self.rollout.prompt) ? self.rollout.prompt != 'trained' : "
            "self.round == 1 || has(self.rollout.policy))",
            "rollout.promptFile is a few-shot prompt: set rollout.prompt to bootstrap or chat",
            ".rollout.promptFile",
        ),
        Rule(
            "!has(self.preferenceModel.model) || self.preferenceModel.model.convention == 'rstar' || "
            "self.services.ppm.engine != 'vllm'",
            "another convention than rstar needs services.ppm.engine: transformers",
            ".preferenceModel.model",
        ),
        Rule(
            "!has(self.rollout.policy) || !has(self.rollout.policy.endpoint) || !has(self.services.policy.autoscaling) || "
            "!has(self.services.policy.autoscaling.queuedTokensPerReplica)",
            "queuedTokensPerReplica scales servers of the round's own, and rollout.policy.endpoint runs already: "
            "remove one of them",
            ".services.policy",
        ),
        Rule("!oldSelf.cancel || self.cancel", "spec.cancel cannot be undone: create a new round", ".cancel"),
        _on_the_cluster("baseModel", "spec.baseModel"),
        *(_unchanged(name) for name in EvolutionRoundSpec.model_fields if name not in MUTABLE),
    ),
    "PreferenceModelSpec": (
        Rule(
            "!has(self.model) || self.use == 'auto'",
            "model and use exclude each other, for a given model always guides: remove use",
            ".model",
        ),
    ),
    "RewardModelSpec": (_on_the_cluster("uri", "uri"),),
    "ProblemsSpec": (
        _on_the_cluster("uri", "uri", optional=True),
        Rule(
            "has(self.uri) != (has(self.sets) && size(self.sets) > 0)",
            "give either uri or sets: one data set, or a list of several",
        ),
    ),
    "DataSet": (_on_the_cluster("uri", "uri"),),
    "EvaluateSpec": (
        Rule(
            # The API server evaluates rules on a default, here {}, before it fills in the defaults inside it.
            "!has(self.methods) || size(self.methods) == 0 || has(self.problems)",
            "the methods need held-out problems: add evaluate.problems or remove the methods",
            ".problems",
        ),
    ),
    "RolloutSpec": (
        Rule(
            "!has(self.prompt) || self.prompt != 'chat' || !has(self.policy) || !has(self.policy.endpoint) || "
            "has(self.policy.tokenizer)",
            "prompt chat of an endpoint needs policy.tokenizer, which has the chat template; or use prompt bootstrap",
            ".prompt",
        ),
        Rule(
            "!has(self.promptFile) || self.promptFile.startsWith('store:')",
            "promptFile must be store:PATH, for pods read files of the store; `rstar submit` uploads a local file",
            ".promptFile",
        ),
    ),
    "RolloutPolicySpec": (
        _on_the_cluster("model", "model", optional=True),
        _on_the_cluster("tokenizer", "tokenizer", optional=True),
        Rule(
            "has(self.model) != has(self.endpoint)",
            "give either model or endpoint: a checkpoint to serve, or a server that runs already",
        ),
        Rule(
            "!has(self.endpoint) || has(self.name)",
            "an endpoint needs name: the name of the model that it serves",
        ),
        Rule(
            "has(self.endpoint) || "
            "!has(self.name) && !has(self.tokenizer) && !has(self.apiKeyEnv) && !has(self.apiKeySecret)",
            "name, tokenizer, apiKeyEnv and apiKeySecret belong to an endpoint: remove them, or give endpoint",
        ),
    ),
    "RolloutSearch": (_VOTES,),
    "EvaluationMethod": (
        _VOTES,
        Rule(
            "!(self.method in ['beam', 'best_of_n']) || self.guidance == 'ppm'",
            "'guidance must be ppm, for ' + self.method + ' chooses by the PPM'",
            ".guidance",
            computed=True,
        ),
    ),
    "Autoscaling": (_ORDER,),
    "ModelAutoscaling": (_ORDER,),
    "ServiceSpec": (_ONE_SIZE,),
    "ModelServiceSpec": (
        _ONE_SIZE,
        Rule(
            "has(self.engine) && self.engine == 'vllm' || "
            "(!has(self.tensorParallel) || self.tensorParallel == 1) && !has(self.memoryShare)",
            "tensorParallel and memoryShare need engine: vllm",
        ),
    ),
    "PolicyTrainingSpec": _TRAINING,
    "PreferenceTrainingSpec": _TRAINING,
    "PodResources": (
        Rule(
            "!has(self.cpuLimit) || string(self.cpuLimit) == 'none' || "
            "quantity(string(self.cpuLimit)).compareTo(quantity(string(self.cpu))) >= 0",
            "cpuLimit must be at least cpu, or none",
            ".cpuLimit",
        ),
    ),
    "Toleration": (
        Rule("has(self.key) || self.operator == 'Exists'", "a toleration without key needs operator: Exists"),
        Rule(
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "a toleration with operator Exists has no value: remove value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "tolerationSeconds needs effect: NoExecute",
        ),
    ),
}
"""Rules by the name of their model."""

LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "Condition": ("type",),
    "StageStatus": ("name",),
    "AttemptStatus": ("stage", "number"),
    "EvaluationMethod": ("name",),
    "RoundChanges": ("round",),
    "RungStatus": ("round",),
}
"""Keys of list entries, by the name of the entry's model. The API server refuses two entries with equal keys."""

"""The spec of an EvolutionRound, the same on a laptop and on a cluster.

Every field has a description, and the paper's value as its default where the paper names one (docs/concepts.md: the
four rounds). Unknown keys and impossible numbers are errors, one sentence each, before any work starts. The CRD is
generated from these models.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from rstar.config import SearchConfig, Settings
from rstar.prompt import PromptStyle
from rstar.rounds.cluster_spec import ClusterSpec
from rstar.rounds.preference_model_spec import PreferenceModelSpec
from rstar.rounds.problems_spec import ProblemsSpec, Uri
from rstar.rounds.rollout_policy_spec import RolloutPolicySpec
from rstar.rounds.services_spec import ServicesSpec
from rstar.rounds.tracking import TrackerName
from rstar.rounds.training_spec import PolicyTrainingSpec, PreferenceTrainingSpec
from rstar.selection import PairRules, SftRules

NAME_LENGTH: Final = 34
"""With the longest suffix of a pod, ``-train-policy-100-worker-1023``, it is 63 characters: the most that a Service takes."""
NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
RoundName = Annotated[str, Field(max_length=NAME_LENGTH, pattern=NAME_PATTERN)]

API_VERSION = "rstar.dev/v1alpha1"
KIND = "EvolutionRound"

MUTABLE: Final = frozenset({"services", "lifecycle", "suspend", "cancel", "cluster", "trackers"})
"""Fields of the spec that may change while the round runs, because no result depends on them."""


class RolloutSearch(SearchConfig):
    """The search of the rollout stage."""

    extra_rollouts: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(
        default=(),
        max_length=16,
        description="Further rollouts for problems without a correct trajectory: one number per further pass, which grows one tree.",
    )


class RolloutSpec(Settings):
    """The rollout stage: search over the training problems."""

    search: RolloutSearch | None = Field(
        default=None, description="Search settings; unset: the paper's settings for this round's number."
    )
    shard_size: int = Field(
        default=64, ge=1, le=100_000, description="Problems per shard; a restart searches only the missing shards."
    )
    concurrency: int = Field(default=32, ge=1, le=10_000, description="Problems searched at once.")
    prompt: PromptStyle | None = Field(
        default=None,
        description="Prompt of the policy: trained, bootstrap (few-shot, for a general LLM) or chat (that in the model's chat template); unset: bootstrap in round 1 and for rollout.policy, else trained.",
    )
    prompt_file: Uri | None = Field(
        default=None,
        description="Few-shot prompt of your own for bootstrap and chat, a text in UTF-8 with {question} where the question belongs: store:PATH, or, on a laptop, a local path; unset: the built-in one.",
    )
    policy: RolloutPolicySpec | None = Field(
        default=None,
        description="Another policy than the trained one, for this stage alone; unset: the base model in round 1, then the previous round's policy.",
    )

    @model_validator(mode="after")
    def _chat_template(self) -> RolloutSpec:
        endpoint = self.policy.server if self.policy is not None else None
        if self.prompt == "chat" and endpoint is not None and endpoint.tokenizer is None:
            raise ValueError(
                "prompt chat of an endpoint needs policy.tokenizer, which has the chat template; or use prompt bootstrap"
            )
        if self.prompt_file is not None and self.prompt_file.startswith("hf:"):
            raise ValueError("promptFile is a file: use store:PATH or a local path")
        return self


class SelectSpec(PairRules, SftRules):
    """The select stage: trees to SFT examples and preference pairs (section 3.3)."""

    held_out_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the problems whose pairs are held out to measure the PPM; those with pairs give no SFT examples.",
    )


class EvaluationMethod(SearchConfig):
    """One column of the evaluation table."""

    name: str = Field(
        min_length=1, max_length=40, pattern=r"^[A-Za-z0-9@._+-]+$", description="Name in tables and reports."
    )


class EvaluateSpec(Settings):
    """The evaluate stage: the round's models on held-out problems."""

    problems: ProblemsSpec | None = Field(
        default=None, description="Held-out problems; unset: the stage reports nothing but the lineage."
    )
    methods: tuple[EvaluationMethod, ...] = Field(
        default=(), max_length=32, description="Methods compared, in order; each uses this round's policy and PPM."
    )
    overlap: Literal["refuse", "drop", "allow"] = Field(
        default="refuse",
        description="When training problems are also among these (same game, same text, or 13 common words): refuse the round, drop them from the training problems, or allow them.",
    )
    concurrency: int = Field(default=32, ge=1, le=10_000, description="Problems searched at once.")


class LifecycleSpec(Settings):
    """Attempts and deadlines of every stage."""

    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts of one stage before the round fails.")
    backoff_seconds: int = Field(
        default=10, ge=0, le=86_400, description="Wait before the second attempt; doubles with every further one."
    )
    deadline_seconds: int = Field(
        default=604_800, ge=1, le=31_536_000, description="Longest time of one attempt of a stage."
    )
    model_call_seconds: float = Field(
        default=600.0,
        gt=0,
        le=86_400,
        description="Longest time that a policy or PPM server may take for one call, counted from when it begins with it.",
    )
    pending_seconds: int = Field(
        default=86_400,
        ge=1,
        le=31_536_000,
        description="Longest time an attempt may wait for its pods to run (cluster only); time in an admission queue does not count.",
    )
    ttl_seconds: int = Field(
        default=86_400,
        ge=0,
        le=31_536_000,
        description="How long the pods and logs of a finished attempt are kept (cluster only).",
    )


class EvolutionRoundSpec(Settings):
    """One round of self-evolution."""

    round: int = Field(ge=1, le=1_000, description="Number of the round; 1 starts from the base model.")
    previous_round: RoundName | None = Field(
        default=None,
        description="Name of the round whose policy and PPM this one searches with; required from round 2 on.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of every random choice in the round.")
    base_model: Uri = Field(
        description="The model every round's SFT restarts from: store:PATH, hf:ORG/NAME@REVISION, or, on a laptop, a local path."
    )
    problems: ProblemsSpec = Field(description="The training problems.")
    verifier: str = Field(
        default="math-verify",
        min_length=1,
        max_length=100,
        description="Verifier by name: math-verify, exact, countdown or a plug-in's.",
    )
    rollout: RolloutSpec = Field(default_factory=RolloutSpec, description="Stage 1: search.")
    preference_model: PreferenceModelSpec = Field(
        default_factory=PreferenceModelSpec, description="When the PPM guides the search."
    )
    select: SelectSpec = Field(default_factory=SelectSpec, description="Stage 2: trees to training data.")
    train_policy: PolicyTrainingSpec = Field(default_factory=PolicyTrainingSpec, description="Stage 3: SFT.")
    train_ppm: PreferenceTrainingSpec = Field(default_factory=PreferenceTrainingSpec, description="Stage 4: the PPM.")
    evaluate: EvaluateSpec = Field(default_factory=EvaluateSpec, description="Stage 5: evaluation.")
    services: ServicesSpec = Field(default_factory=ServicesSpec, description="Sizes of the services.")
    lifecycle: LifecycleSpec = Field(default_factory=LifecycleSpec, description="Attempts and deadlines.")
    trackers: tuple[TrackerName, ...] = Field(
        default=(),
        max_length=3,
        description="Where stages also log their figures, in one run per round: tensorboard (files in the store), mlflow (needs MLFLOW_TRACKING_URI), wandb (by its own variables).",
    )
    suspend: bool = Field(default=False, description="Release all compute and wait until it is false again.")
    cancel: bool = Field(
        default=False, description="End the round for good; finished work is kept. This cannot be undone."
    )
    cluster: ClusterSpec = Field(default_factory=ClusterSpec, description="Storage, queue, placement and resources.")

    @model_validator(mode="after")
    def _chain(self) -> EvolutionRoundSpec:
        if self.round == 1 and self.previous_round is not None:
            raise ValueError("round 1 starts from the base model: remove previousRound or raise round")
        if self.round > 1 and self.previous_round is None:
            raise ValueError(f"round {self.round} needs previousRound: the name of round {self.round - 1}")
        if self.rollout.prompt_file is not None and self.rollout_prompt == "trained":
            raise ValueError("rollout.promptFile is a few-shot prompt: set rollout.prompt to bootstrap or chat")
        given = self.preference_model.model
        if given is not None and given.convention != "rstar" and self.services.ppm.engine == "vllm":
            raise ValueError(
                f"preferenceModel.model.convention {given.convention} needs services.ppm.engine: transformers"
            )
        scaling, asked = self.services.policy.autoscaling, self.rollout.policy
        if (
            asked is not None
            and asked.endpoint is not None
            and scaling is not None
            and scaling.queued_tokens_per_replica is not None
        ):
            raise ValueError(
                "services.policy.autoscaling.queuedTokensPerReplica scales servers of the round's own, and "
                "rollout.policy.endpoint runs already: remove one of them"
            )
        names = [method.name for method in self.evaluate.methods]
        if len(set(names)) != len(names):
            raise ValueError("evaluate.methods: every method needs its own name")
        guided = next(iter(self.guided_methods), None)
        if guided is not None and self.preference_model.use == "never":
            raise ValueError(
                f"evaluate.methods: {guided} is guided by a PPM, but preferenceModel.use is never, so the round trains none; "
                "use auto or remove the method"
            )
        return self

    @property
    def trains_ppm(self) -> bool:
        """Whether the round trains a PPM, and holds problems out to measure it."""
        return self.preference_model.use != "never" and self.preference_model.model is None

    @property
    def guided_methods(self) -> list[str]:
        """The names of the evaluation's methods that a PPM guides."""
        return [method.name for method in self.evaluate.methods if method.guidance == "ppm"]

    @property
    def search(self) -> RolloutSearch:
        """The rollout stage's search settings: the user's, or the paper's for this round's number."""
        return self.rollout.search or paper_search(self.round)

    @property
    def rollout_prompt(self) -> PromptStyle:
        """The prompt of the policy in the rollout stage."""
        untrained = self.round == 1 or self.rollout.policy is not None
        return self.rollout.prompt or ("bootstrap" if untrained else "trained")


class Metadata(Settings):
    """Metadata of the resource."""

    model_config = Settings.model_config | {"extra": "allow"}

    name: RoundName = Field(
        description="Name of the round: small letters, digits and '-', at most 34 characters (pods append a suffix)."
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the object on a cluster.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the object on a cluster.")


class EvolutionRound(Settings):
    """The resource that ``kubectl apply`` and ``rstar run`` read."""

    api_version: Literal["rstar.dev/v1alpha1"]
    kind: Literal["EvolutionRound"]
    metadata: Metadata
    spec: EvolutionRoundSpec

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name


def paper_search(round_number: int) -> RolloutSearch:
    """Return the paper's search settings of a round (section 3.4)."""
    if round_number == 1:
        return RolloutSearch(rollouts=8, candidates=5, temperature=0.7)
    if round_number == 2:
        return RolloutSearch(rollouts=16, candidates=8)
    if round_number == 3:
        return RolloutSearch(rollouts=16, candidates=8, extra_rollouts=(16,))
    return RolloutSearch(rollouts=16, candidates=16, trajectories=2, extra_rollouts=(64, 128))

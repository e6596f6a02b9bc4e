"""The observed state of a round and the actions of the planner: plain data.

The laptop driver fills it from child processes and a journal, the operator from the cluster's API, so that one planner
serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from rstar.models.model_folder import ConventionName, EngineName, Precision
from rstar.prompt import PromptStyle
from rstar.rounds.status import Condition


class Stage(StrEnum):
    """The five stages, in the order in which they run."""

    ROLLOUT = "rollout"
    SELECT = "select"
    TRAIN_POLICY = "train-policy"
    TRAIN_PPM = "train-ppm"
    EVALUATE = "evaluate"


STAGES: Final = tuple(Stage)

STAGE_INPUTS: Final[Mapping[Stage, Mapping[str, Stage]]] = {
    Stage.ROLLOUT: {},
    Stage.SELECT: {"rollout": Stage.ROLLOUT},
    Stage.TRAIN_POLICY: {"select": Stage.SELECT},
    Stage.TRAIN_PPM: {"select": Stage.SELECT, "policy": Stage.TRAIN_POLICY},
    Stage.EVALUATE: {"policy": Stage.TRAIN_POLICY, "ppm": Stage.TRAIN_PPM},
}
"""The stages of the same round that each stage reads, by input name. Rollout reads the previous round's models."""


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest in the store: its key, and the sha256 of its bytes in hex."""

    key: str
    digest: str

    @property
    def prefix(self) -> str:
        """The folder of the stage's outputs in the store."""
        return self.key.rpartition("/")[0]


SKIPPED: Final = "skipped"
"""Key in a manifest's metrics: what the stage left out of its work and why, as a clause."""


@dataclass(frozen=True, slots=True)
class StageOutput:
    """The output of a stage that is done. ``code_version``: of the code that made it, '' where it is unknown."""

    manifest: ManifestRef
    metrics: Mapping[str, Any] = field(default_factory=dict)
    code_version: str = ""

    @property
    def skipped(self) -> str:
        """What the stage left out and why; '' when it did all of its work. A train-ppm that skipped has no model."""
        return str(self.metrics.get(SKIPPED) or "")


class AttemptState(StrEnum):
    """The state of one attempt."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class EndReason(StrEnum):
    """Why an attempt was ended from outside. DEADLINE and UNSCHEDULED count as failures, the others do not.

    After LOST the next attempt waits as after a failure: machines may be taken away for a long time.
    """

    DEADLINE = "deadline"
    UNSCHEDULED = "unscheduled"
    """Its pods did not run within ``lifecycle.pendingSeconds``."""
    SUSPENDED = "suspended"
    """Also on a laptop, when the driver that started it has ended."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """Its node or its pods were taken away: set by observers, never by the planner."""


BAD_INPUT: Final = 2
"""Exit code of a stage or service that refuses its input: a retry cannot help."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a stage. ``number`` counts from 1; ``ending`` is set when the planner has ended it.

    ``queued``: an admission queue holds it back, and ``pendingSeconds`` does not pass. ``reason``: why it failed, or
    what a pending attempt waits for.
    """

    stage: Stage
    number: int
    state: AttemptState
    started_at: datetime
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    output: StageOutput | None = None
    ending: EndReason | None = None
    queued: bool = False

    @property
    def live(self) -> bool:
        """Whether it may still hold compute."""
        return self.state in {AttemptState.PENDING, AttemptState.RUNNING}

    @property
    def done(self) -> bool:
        """Whether it left a manifest. Exit code 0 without one is a failure."""
        return self.state is AttemptState.SUCCEEDED and self.output is not None

    @property
    def counts(self) -> bool:
        """Whether it counts against ``maxAttempts``: it failed, and its compute was not taken away."""
        return not self.live and not self.done and self.ending in {None, EndReason.DEADLINE, EndReason.UNSCHEDULED}


class ServiceKind(StrEnum):
    """The four services, in the order in which they are needed."""

    POLICY = "policy"
    PPM = "ppm"
    EXECUTOR = "executor"
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model: its URI, and the digest of the manifest that lists it ('' for a base model).

    ``round_name``: the round that fixes the commit of a model on the hub, '' for other models.
    """

    uri: str
    digest: str = ""
    round_name: str = ""


@dataclass(frozen=True, slots=True)
class ModelServing:
    """How a server runs its model: see ``rstar.rounds.services_spec.ModelServiceSpec``."""

    engine: EngineName = "transformers"
    dtype: Precision = "auto"
    tensor_parallel: int = 1
    memory_share: float | None = None


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One entry of a Secret: the names of the Secret and of its key."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class EndpointRef:
    """A server with OpenAI's completions that runs already, and its model's ``name`` there.

    ``tokenizer``: the URI of one with the model's chat template; ``round_name``: the round that fixes its commit if it is on
    the hub, else ''.
    Its key is in ``key_variable`` of the environment on a laptop, in ``key_secret`` on a cluster; None: it needs none.
    """

    url: str
    name: str
    tokenizer: str | None = None
    key_variable: str | None = None
    key_secret: SecretRef | None = None
    round_name: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """The identity of a service: the planner compares services by nothing else.

    ``prompt_file``: the URI of a few-shot prompt of the user's. ``endpoint``: a policy service sends its calls there, and has no ``model`` of its own.
    ``upstream``: the services that a search coordinator calls. Another policy needs another coordinator.
    ``call_seconds``: the deadline of its calls to models. ``convention``: how a PPM that no round trained reads steps.
    """

    kind: ServiceKind
    model: ModelRef | None = None
    prompt: PromptStyle | None = None
    prompt_file: str | None = None
    replicas: int = 1
    slots: int | None = None
    serving: ModelServing = ModelServing()
    call_seconds: float | None = None
    upstream: tuple[ServiceRef, ...] = ()
    endpoint: EndpointRef | None = None
    convention: ConventionName | None = None


ServiceState = Literal["starting", "ready", "stopping", "failed"]


@dataclass(frozen=True, slots=True)
class Service:
    """An observed service. ``failures`` in a row; ``since``: the time of the last failure, or of the start.

    ``shared``: it belongs to the installation and serves many rounds. The planner waits for it but never starts or
    stops it.
    """

    ref: ServiceRef
    state: ServiceState
    since: datetime
    failures: int = 0
    exit_code: int | None = None
    reason: str = ""
    shared: bool = False


@dataclass(frozen=True, slots=True)
class PreviousRound:
    """The previous round: ``outputs`` are complete when ``state`` is succeeded."""

    state: Literal["missing", "running", "failed", "succeeded"] = "missing"
    outputs: Mapping[Stage, StageOutput] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """All input of the planner but the spec. ``conditions``: those of the last status, for their transition times."""

    attempts: tuple[Attempt, ...] = ()
    services: tuple[Service, ...] = ()
    previous: PreviousRound = PreviousRound()
    conditions: tuple[Condition, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    suspended: bool = False
    deleted: bool = False

    def of(self, stage: Stage) -> tuple[Attempt, ...]:
        """Return the attempts of ``stage``, in order."""
        return tuple(sorted((a for a in self.attempts if a.stage is stage), key=lambda a: a.number))

    def output(self, stage: Stage) -> StageOutput | None:
        """Return the output of ``stage``, or None while it is not done."""
        return next((a.output for a in self.of(stage) if a.done), None)


@dataclass(frozen=True, slots=True)
class StartService:
    """Start this service, or restart it after a failure."""

    ref: ServiceRef


@dataclass(frozen=True, slots=True)
class StopService:
    """Drain and release this service."""

    ref: ServiceRef


@dataclass(frozen=True, slots=True)
class StartStage:
    """Start one attempt. ``inputs``: (input name, manifest), sorted; ``search``: the coordinator that it calls, if any."""

    stage: Stage
    attempt: int
    inputs: tuple[tuple[str, ManifestRef], ...]
    search: ServiceRef | None = None


@dataclass(frozen=True, slots=True)
class EndStage:
    """End a live attempt with SIGTERM; the next attempt continues from its files."""

    stage: Stage
    attempt: int
    reason: EndReason


Action = StartService | StopService | StartStage | EndStage

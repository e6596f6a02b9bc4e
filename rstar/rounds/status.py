"""The status of a round as users see it: conditions, stages, progress, lineage.

Pydantic like the spec, so that ``rstar status --json``, the laptop's journal and the resource's ``status`` have one
format. The planner fills it (``report``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from rstar.config import Settings

ConditionStatus = Literal["True", "False", "Unknown"]
Phase = Literal["Waiting", "Running", "Suspended", "Deleted", "Failed", "Succeeded"]
StageState = Literal["waiting", "running", "retrying", "failed", "done"]


class Condition(Settings):
    """One condition, in the form of Kubernetes' ``metav1.Condition``.

    Types: Ready, Succeeded, Failed, Suspended, PPMGuides, NameConflict (cluster only), and StageRollout, StageSelect, StageTrainPolicy,
    StageTrainPpm, StageEvaluate.
    """

    type: str = Field(description="Type of the condition.")
    status: ConditionStatus = Field(description="Whether the condition holds.")
    reason: str = Field(description="Why, as one CamelCase word.")
    message: str = Field(default="", description="Why, as one sentence.")
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the condition is about (cluster only)."
    )


class OutputStatus(Settings):
    """A manifest by key and digest."""

    manifest: str = Field(description="Key of the manifest in the store.")
    digest: str = Field(description="sha256 of the manifest's bytes.")


class StageStatus(Settings):
    """The status of one stage."""

    name: str = Field(description="rollout, select, train-policy, train-ppm or evaluate.")
    state: StageState = Field(description="waiting, running, retrying, failed or done.")
    attempts: int = Field(default=0, description="Failed attempts that count against maxAttempts.")
    output: OutputStatus | None = Field(default=None, description="Its manifest, once it is done.")
    metrics: dict[str, Any] = Field(default_factory=dict, description="The metrics of its manifest.")
    code_version: str = Field(default="", description="Version of the code that made its output.")


class AttemptStatus(Settings):
    """One attempt of a stage."""

    stage: str = Field(description="rollout, select, train-policy, train-ppm or evaluate.")
    number: int = Field(description="Counts from 1 within the stage.")
    state: Literal["pending", "running", "succeeded", "failed"] = Field(description="Its state.")
    started_at: datetime = Field(description="When it started to run, or to wait for its pods.")
    finished_at: datetime | None = Field(default=None, description="When it ended.")
    exit_code: int | None = Field(
        default=None, description="Exit code of its program: 2 is bad input, 137 is killed, mostly out of memory."
    )
    reason: str = Field(default="", description="What it waits for or why it failed, as one sentence.")
    ending: Literal["deadline", "unscheduled", "suspended", "cancelled", "lost"] | None = Field(
        default=None, description="Why it was ended from outside; unset: it was not."
    )


class RoundStatus(Settings):
    """The status of a round."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the status is about (cluster only)."
    )

    phase: Phase = Field(description="One word for tables.")
    stage: str | None = Field(default=None, description="The running or next stage; unset when the round has ended.")
    message: str = Field(default="", description="The status as one sentence.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Conditions by type.")
    stages: tuple[StageStatus, ...] = Field(default=(), description="The five stages in order.")
    attempts: tuple[AttemptStatus, ...] = Field(default=(), description="Every attempt of every stage, in order.")
    inputs: dict[str, OutputStatus] = Field(
        default_factory=dict, description="Manifests of the previous round that the rollout reads."
    )
    progress: dict[str, Any] = Field(default_factory=dict, description="Last report of the running stage.")
    progress_text: str = Field(default="", description="How far the running stage is, as DONE/TOTAL.")
    solved_percent: str = Field(
        default="",
        description="Share of the training problems with a correct trajectory, in percent; during rollout, of those searched so far.",
    )

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is there."""
        return next((c for c in self.conditions if c.type == kind), None)


def merge_conditions(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return ``new`` with the transition times of ``old`` where the status did not change, and the other old ones."""
    merged = {condition.type: condition for condition in old}
    for condition in new:
        before = merged.get(condition.type)
        if before is not None and before.status == condition.status:
            since = before.last_transition_time
            merged[condition.type] = condition.model_copy(update={"last_transition_time": since})
        else:
            merged[condition.type] = condition
    return tuple(merged.values())

"""The status of a round as users see it: conditions, stages, progress, lineage.

Pydantic like the spec, so that ``rstar status --json``, the laptop's journal and the resource's
``status`` are one format. The module refuses to decide what the status is (see ``plan``).
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

    type: str = Field(description="What is said.")
    status: ConditionStatus = Field(description="Whether it holds.")
    reason: str = Field(description="Why, as one CamelCase word for programs.")
    message: str = Field(default="", description="Why, as one sentence for people.")
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this is said of (cluster only)."
    )


class OutputStatus(Settings):
    """A manifest by key and digest."""

    manifest: str = Field(description="Key of the manifest in the store.")
    digest: str = Field(description="sha256 of the manifest's bytes.")


class StageStatus(Settings):
    """Where one stage is."""

    name: str = Field(description="rollout, select, train-policy, train-ppm or evaluate.")
    state: StageState = Field(description="waiting, running, retrying, failed or done.")
    attempts: int = Field(default=0, description="Attempts that failed by their own fault.")
    output: OutputStatus | None = Field(default=None, description="What it left in the store.")
    metrics: dict[str, Any] = Field(default_factory=dict, description="What it measured.")


class AttemptStatus(Settings):
    """One attempt of a stage, as it went."""

    stage: str = Field(description="rollout, select, train-policy, train-ppm or evaluate.")
    number: int = Field(description="Counts from 1 within the stage.")
    state: Literal["pending", "running", "succeeded", "failed"] = Field(description="Where it is, or how it ended.")
    started_at: datetime = Field(description="When it began to run, or to wait for its pods.")
    finished_at: datetime | None = Field(default=None, description="When it ended.")
    exit_code: int | None = Field(
        default=None, description="Exit code of its program: 137 is out of memory, 2 bad input."
    )
    reason: str = Field(default="", description="What it waits for, or why it failed, as one sentence.")
    ending: Literal["deadline", "unscheduled", "suspended", "cancelled", "lost"] | None = Field(
        default=None, description="Why it was ended from outside."
    )


class RoundStatus(Settings):
    """The whole status."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this status is of (cluster only)."
    )

    phase: Phase = Field(description="One word for tables.")
    stage: str | None = Field(default=None, description="The stage at work or next; unset when the round has ended.")
    message: str = Field(default="", description="One sentence for people.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Conditions by type.")
    stages: tuple[StageStatus, ...] = Field(default=(), description="The five stages in order.")
    attempts: tuple[AttemptStatus, ...] = Field(default=(), description="Every attempt of every stage, in order.")
    inputs: dict[str, OutputStatus] = Field(
        default_factory=dict, description="What the rollout reads of the previous round."
    )
    progress: dict[str, Any] = Field(default_factory=dict, description="What the running stage last reported.")
    progress_text: str = Field(default="", description="How far the running stage is, as DONE/TOTAL.")
    solved_percent: str = Field(
        default="",
        description="Share of the training problems with a right trajectory, so far or in the end, in percent.",
    )

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is there."""
        return next((c for c in self.conditions if c.type == kind), None)


def merge_conditions(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return ``new`` with the transition times of ``old`` where the status did not change; other old ones are kept."""
    merged = {condition.type: condition for condition in old}
    for condition in new:
        before = merged.get(condition.type)
        if before is not None and before.status == condition.status:
            since = before.last_transition_time
            merged[condition.type] = condition.model_copy(update={"last_transition_time": since})
        else:
            merged[condition.type] = condition
    return tuple(merged.values())

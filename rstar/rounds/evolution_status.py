"""The status of an evolution as users see it: its rounds with what each reached, and why it goes on or ends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rstar.config import Settings
from rstar.rounds.status import Condition

EvolutionPhase = Literal["Running", "Suspended", "Failed", "Succeeded"]


class MethodAccuracy(Settings):
    """The accuracy of one method of a round's evaluation."""

    name: str = Field(description="Name of the method.")
    accuracy: float = Field(description="Share of the held-out problems that it solves.")


class RungStatus(Settings):
    """One round of the evolution."""

    round: int = Field(description="Number of the round.")
    name: str = Field(description="Name of the EvolutionRound.")
    phase: str = Field(description="Its phase; Waiting before the operator has seen it.")
    coverage: float | None = Field(default=None, description="Share of the training problems that it solved.")
    accuracy: tuple[MethodAccuracy, ...] = Field(default=(), description="Accuracy by method, once it is evaluated.")


class EvolutionStatus(Settings):
    """The status of an evolution."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that it is about.")
    phase: EvolutionPhase = Field(description="One word for tables.")
    message: str = Field(default="", description="The status as one sentence.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Ready, Succeeded, Failed, Suspended.")
    rounds: tuple[RungStatus, ...] = Field(default=(), description="The rounds that exist, in order.")
    rounds_text: str = Field(default="", description="Finished rounds of all, as DONE/TOTAL.")
    stage: str = Field(default="", description="The stage of the round at work.")
    progress_text: str = Field(default="", description="How far that stage is, as DONE/TOTAL.")
    solved_percent: str = Field(default="", description="Share of the training problems solved, by round, in percent.")
    accuracy_percent: str = Field(
        default="", description="Accuracy of the rule's or the last method, by round, in percent."
    )

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is there."""
        return next((c for c in self.conditions if c.type == kind), None)

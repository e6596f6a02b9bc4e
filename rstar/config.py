"""The settings of one search, validated before any work starts.

The notebook, the ``search`` service and the ``EvolutionRound`` resource share one model, so that a key has one
name, one default and one meaning everywhere.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from rstar.interfaces import ExecutionLimits

_LIMITS: Final = ExecutionLimits()


class Settings(BaseModel):
    """Base of all settings that a user writes in YAML: camelCase there, snake_case here, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)


class ExecutionSettings(Settings):
    """Limits of one candidate program."""

    seconds: float = Field(
        default=_LIMITS.seconds, gt=0, le=600, description="Wall-clock limit of one program, in seconds."
    )
    memory_mib: int = Field(
        default=_LIMITS.memory_mib, ge=32, le=65_536, description="Address space of one program, in MiB."
    )
    output_bytes: int = Field(
        default=_LIMITS.output_bytes,
        ge=256,
        le=16_777_216,
        description="Bytes of standard output kept before the program is ended.",
    )
    file_mib: int = Field(
        default=_LIMITS.file_mib, ge=1, le=4_096, description="Size limit of one file a program writes, in MiB."
    )

    @property
    def limits(self) -> ExecutionLimits:
        """The limits that an executor takes."""
        return ExecutionLimits(**self.model_dump())


SearchMethod = Literal["mcts", "beam", "best_of_n", "majority", "greedy"]


class SearchConfig(Settings):
    """How one problem is searched. The defaults are the paper's inference settings where it names them."""

    method: SearchMethod = Field(
        default="mcts",
        description="Search method: mcts, beam, best_of_n (chosen by the PPM), majority (self-consistency) or greedy.",
    )
    rollouts: int = Field(
        default=16,
        ge=1,
        le=100_000,
        description="MCTS: descents from the root of each tree. Sampling methods: trajectories sampled.",
    )
    candidates: int = Field(default=8, ge=1, le=1_024, description="Candidate steps proposed per expansion (n).")
    trajectories: int = Field(
        default=1,
        ge=1,
        le=1_024,
        description="Independent searches (trees) of a problem, each with its own seed. Each gives its best trajectory by the PPM, and the answer is chosen among these (the paper's N trajectories); training keeps all trees.",
    )
    max_depth: int = Field(default=16, ge=1, le=256, description="Most steps in one trajectory.")
    exploration: float = Field(default=2.0, ge=0, description="Exploration constant c of UCT (equation 1).")
    unvisited: Literal["first", "zero"] = Field(
        default="first", description="An unvisited child is tried first, or scores 0 as in the paper's release."
    )
    widening: int = Field(
        default=0,
        ge=0,
        le=1_024,
        description="Progressive widening: new candidates proposed at every pass through an expanded node; 0 turns it off.",
    )
    beam_width: int = Field(default=4, ge=1, le=1_024, description="Beam search: steps kept per level.")
    max_consecutive_errors: int = Field(
        default=1,
        ge=1,
        le=16,
        description="A path is given up after this many steps in a row whose code failed. 1: a failed step ends its path. More: a next step may repair it; it sees the error, and the failed code is left out of later programs.",
    )
    token_budget: int | None = Field(
        default=None,
        ge=1,
        description="Stop after the expansion that reaches this many generated tokens, shared equally by the trajectories; unset: no limit.",
    )
    stop_when_solved: bool = Field(
        default=False, description="End the search at the first verified trajectory (needs a verifier)."
    )
    temperature: float = Field(default=1.0, ge=0, le=10, description="Sampling temperature; 0 is greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus sampling mass.")
    max_new_tokens: int = Field(default=2_048, ge=1, le=131_072, description="Most tokens generated for one step.")
    answer: Literal["policy", "output", "unexecuted"] = Field(
        default="policy",
        description="policy: the policy writes the answer after seeing the program's output; output: the output is the answer; unexecuted: as policy, and an answer without a program counts too.",
    )
    vote_top: int | None = Field(
        default=None,
        ge=1,
        description="Answer by majority vote among so many trajectories with the highest PPM scores, where equal answers count as one; unset: the highest score decides.",
    )
    guidance: Literal["ppm", "none"] = Field(
        default="none", description="Steps start from the PPM's score (equation 3), or from 0."
    )
    execution: ExecutionSettings = Field(default_factory=ExecutionSettings, description="Limits of candidate programs.")

    @model_validator(mode="after")
    def _votes(self) -> SearchConfig:
        if self.method in {"mcts", "beam"} and (self.vote_top or 0) > self.trajectories:
            raise ValueError(
                f"voteTop {self.vote_top} is more than trajectories {self.trajectories}: each trajectory has one vote"
            )
        return self

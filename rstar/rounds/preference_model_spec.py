"""The process preference model (PPM) of a round: trained by the rounds themselves, or a process reward model that exists.

The paper trains a PPM in every round. Public process reward models score steps as well, each by a convention of its own
(``rstar_ppm.conventions``); with one of them a round trains none.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rstar.config import Settings
from rstar.models.model_folder import ConventionName
from rstar.rounds.problems_spec import Uri


class RewardModelSpec(Settings):
    """A process reward model that exists already."""

    uri: Uri = Field(description="The checkpoint: store:PATH, hf:ORG/NAME@REVISION, or, on a laptop, a local path.")
    convention: ConventionName = Field(
        default="rstar", description="How it reads steps: rstar for the PPM of another evolution, else its family's."
    )


class PreferenceModelSpec(Settings):
    """Whether and when the previous round's PPM guides the search, and whether this round trains one."""

    use: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="auto: from round 3 on, when the previous PPM reached minPairAccuracy; never: the round trains none either.",
    )
    min_pair_accuracy: float = Field(
        default=0.6,
        ge=0.5,
        le=1.0,
        description="Held-out pair accuracy that a PPM needs to guide the search under auto; its 95 % lower bound, with one observation per problem, must reach it.",
    )
    model: RewardModelSpec | None = Field(
        default=None,
        description="A process reward model that guides the search of this round, from round 1 on, and its evaluation; the round then trains none. Unset: the PPM that the rounds train.",
    )

    @model_validator(mode="after")
    def _model_alone(self) -> PreferenceModelSpec:
        if self.model is not None and self.use != "auto":
            raise ValueError(
                f"model and use: {self.use} exclude each other, for a given model always guides: remove one"
            )
        return self

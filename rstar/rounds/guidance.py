"""Whether the previous round's PPM guides this round's search.

A PPM that ranks pairs badly misleads the search, so its held-out pair accuracy must first reach
``preferenceModel.minPairAccuracy``; in the paper it guides from round 3 on (section 3.4). The decision's message has
the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.rounds.observed import ManifestRef, PreviousRound, Stage
from rstar.rounds.spec import EvolutionRoundSpec

PAIR_ACCURACY: Final = "pair_accuracy"
"""Key of the held-out pair accuracy in the metrics of train-ppm: of step pairs, without those of the final-answer rule."""

FIRST_GUIDED_ROUND: Final = 3


@dataclass(frozen=True, slots=True)
class Guidance:
    """``ppm``: the manifest of the guiding PPM, or None. ``error``: the spec requires a PPM that does not exist."""

    ppm: ManifestRef | None
    reason: str
    message: str
    error: bool = False


def ppm_guidance(spec: EvolutionRoundSpec, previous: PreviousRound) -> Guidance:
    """Return the decision under ``spec.preference_model`` (auto, always, never)."""
    settings = spec.preference_model
    if settings.use == "never":
        return Guidance(None, "Never", "preferenceModel.use is never")
    output = previous.outputs.get(Stage.TRAIN_PPM)
    if settings.use == "always":
        if output is None:
            message = "preferenceModel.use is always, but there is no PPM of a previous round: use auto or never"
            return Guidance(None, "NoPreviousPPM", message, error=True)
        return Guidance(output.manifest, "Always", "preferenceModel.use is always")
    if spec.round < FIRST_GUIDED_ROUND:
        return Guidance(
            None,
            "EarlyRound",
            f"round {spec.round} searches without a PPM: it may guide from round {FIRST_GUIDED_ROUND} on",
        )
    accuracy = output.metrics.get(PAIR_ACCURACY) if output else None
    if output is None or not isinstance(accuracy, (int, float)):
        return Guidance(None, "NotMeasured", "the previous round reports no held-out pair accuracy of its PPM")
    figures = f"held-out pair accuracy {accuracy:.3f} of the previous round's PPM"
    if accuracy < settings.min_pair_accuracy:
        return Guidance(
            None, "PairAccuracyTooLow", f"{figures} is below minPairAccuracy {settings.min_pair_accuracy:g}"
        )
    return Guidance(
        output.manifest, "PairAccuracyReached", f"{figures} reaches minPairAccuracy {settings.min_pair_accuracy:g}"
    )

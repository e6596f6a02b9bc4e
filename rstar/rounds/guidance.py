"""Whether the previous round's PPM guides this round's search.

A PPM that ranks pairs badly misleads the search, so the lower bound of its held-out pair accuracy must first reach
``preferenceModel.minPairAccuracy``; in the paper it guides from round 3 on (section 3.4). The decision's message has
the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.rounds.observed import ManifestRef, PreviousRound, Stage
from rstar.rounds.pair_accuracy import PairAccuracy, problems_needed, read_pair_accuracy
from rstar.rounds.spec import EvolutionRoundSpec

FIRST_GUIDED_ROUND: Final = 3


@dataclass(frozen=True, slots=True)
class Guidance:
    """``ppm``: the manifest of the guiding PPM, or None. ``given``: the spec names a model that guides.

    ``error``: the spec requires a PPM that does not exist.
    """

    ppm: ManifestRef | None
    reason: str
    message: str
    error: bool = False
    given: bool = False

    @property
    def guides(self) -> bool:
        """Whether a PPM guides the search."""
        return self.given or self.ppm is not None


def ppm_guidance(spec: EvolutionRoundSpec, previous: PreviousRound) -> Guidance:
    """Return the decision under ``spec.preference_model``: a given model, or the previous PPM (auto, always, never)."""
    settings = spec.preference_model
    if settings.model is not None:
        return Guidance(None, "GivenModel", f"preferenceModel.model is {settings.model.uri}", given=True)
    if settings.use == "never":
        return Guidance(None, "Never", "preferenceModel.use is never")
    output = previous.outputs.get(Stage.TRAIN_PPM)
    measured = read_pair_accuracy(output.metrics) if output is not None else None
    untrained = f": {output.skipped}" if output is not None and output.skipped else ""
    if settings.use == "always":
        if output is None or untrained:
            message = f"preferenceModel.use is always, but the previous round has no PPM{untrained}; use auto or never"
            return Guidance(None, "NoPreviousPPM", message, error=True)
        return Guidance(output.manifest, "Always", f"preferenceModel.use is always; {_figures(measured)}")
    if spec.round < FIRST_GUIDED_ROUND:
        return Guidance(
            None,
            "EarlyRound",
            f"round {spec.round} searches without a PPM: it may guide from round {FIRST_GUIDED_ROUND} on",
        )
    if untrained:
        return Guidance(None, "NotTrained", f"the previous round has no PPM{untrained}")
    if output is None or measured is None:
        message = f"{_figures(None)}: use more problems or a larger select.heldOutFraction"
        return Guidance(None, "NotMeasured", message)
    bar = settings.min_pair_accuracy
    figures = _figures(measured)
    if measured.low >= bar:
        return Guidance(output.manifest, "PairAccuracyReached", f"{figures}, which reaches minPairAccuracy {bar:g}")
    needed = problems_needed(measured, bar)
    if needed is None:
        return Guidance(None, "PairAccuracyTooLow", f"{figures}; the accuracy does not exceed minPairAccuracy {bar:g}")
    message = (
        f"{figures}, which is below minPairAccuracy {bar:g}: at this accuracy about {needed} such problems would show it; use "
        "more problems or a larger select.heldOutFraction"
    )
    return Guidance(None, "TooFewPairs", message)


def _figures(measured: PairAccuracy | None) -> str:
    if measured is None:
        return "the previous round measured its PPM on no held-out step pair"
    return f"held-out pair accuracy of the previous round's PPM: {measured}"

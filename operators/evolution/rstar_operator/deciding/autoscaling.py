"""Why the model servers of a round cannot scale by queued tokens in this installation, as a condition of the round.

They keep their fewest replicas then, and the round runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rstar.rounds.services_spec import ServicesSpec
from rstar_operator.children.autoscaler import queued_tokens
from rstar_operator.configuration import Configuration, RoundAutoscaling

AUTOSCALING_UNAVAILABLE: Final = "AutoscalingUnavailable"
"""The condition."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """``NoMechanism``: the configuration names none. ``NoKeda``: it names KEDA, and the API server has no ScaledObjects."""

    reason: Literal["NoMechanism", "NoKeda"]
    message: str


def unavailable_autoscaling(
    services: ServicesSpec, configuration: Configuration, *, without_keda: bool
) -> Unavailable | None:
    """Return why model servers that should scale by queued tokens cannot, or None."""
    scalings = {"policy": services.policy.autoscaling, "ppm": services.ppm.autoscaling}
    asking = [kind for kind, scaling in scalings.items() if scaling is not None and queued_tokens(scaling) is not None]
    if not asking:
        return None
    stay = f"the servers of {' and '.join(asking)} keep minReplicas"
    if configuration.autoscaling.kind == "none":
        hint = "set rounds.autoscaling.kind of the chart rstar, or remove queuedTokensPerReplica"
        return Unavailable("NoMechanism", f"the operator has no way to scale by queued tokens, so {stay}: {hint}")
    if configuration.autoscaling.kind == "keda" and without_keda:
        hint = "install KEDA, which is noticed within ten minutes, or change rounds.autoscaling.kind of the chart rstar"
        return Unavailable("NoKeda", f"the cluster has no ScaledObjects (keda.sh/v1alpha1), so {stay}: {hint}")
    return None


def without_mechanism(configuration: Configuration) -> Configuration:
    """Return the configuration with which no service scales by queued tokens."""
    return configuration.model_copy(update={"autoscaling": RoundAutoscaling()})

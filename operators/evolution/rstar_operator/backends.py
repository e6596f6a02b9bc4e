"""The training backends by the name that the configuration gives them."""

from __future__ import annotations

from rstar_operator.backend import PyTorchJobBackend, TrainingBackend
from rstar_operator.configuration import Configuration
from rstar_operator.trainjob import TrainJobBackend


def backend_of(configuration: Configuration) -> TrainingBackend:
    """Return the backend that the configuration names."""
    return TrainJobBackend() if configuration.training_backend == "trainjob" else PyTorchJobBackend()

"""The processes that train together, by torchrun's environment variables, and the batch size of each."""

from __future__ import annotations

import os

from rstar.rounds.training_spec import TrainingSpec
from rstar_jobs.errors import BadInputError


def is_leader() -> bool:
    """Return whether this process writes the results of all of them."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Return this process's number on its node: the device it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def process_count() -> int:
    """Return the number of processes that train together, on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def micro_batch_size(spec: TrainingSpec, processes: int) -> int:
    """Return the examples of one forward pass. Raises ``BadInputError`` when the batch cannot be split evenly."""
    if spec.batch_size % processes:
        raise BadInputError(
            f"batchSize {spec.batch_size} is not divisible by the {processes} processes: change one of them"
        )
    size = spec.micro_batch_size or spec.batch_size // processes
    if spec.batch_size % (size * processes):
        raise BadInputError(
            f"batchSize {spec.batch_size} is not divisible by microBatchSize {size} times {processes} processes: "
            "change one of them"
        )
    return size

"""The processes that train together, as torchrun's environment names them, and how a batch is cut over them."""

from __future__ import annotations

import os

from rstar.rounds.spec import TrainingSpec
from rstar_jobs.program import BadInputError


def is_leader() -> bool:
    """Say whether this process writes what all of them made."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Return this process's number on its node: the device it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def process_count() -> int:
    """Return how many processes train together, on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def micro_batch_size(spec: TrainingSpec, processes: int) -> int:
    """Return the examples of one forward pass. Raises ``BadInputError`` when the batch cannot be cut evenly."""
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

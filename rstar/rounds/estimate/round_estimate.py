"""The estimate of a round: work, time and GPU hours of its stages, memory, storage and executors. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rstar.rounds.estimate.model_size import BYTES
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.processes import ProcessEstimate, processes, stored_format
from rstar.rounds.estimate.search_cost import SearchCost
from rstar.rounds.observed import Stage
from rstar.rounds.training_spec import TrainingSpec

BUSY: Final = 0.8
"""Share of the executors' slots that is busy at the planned rate: programs come in bursts."""

SELECTED_PER_SECOND: Final = 30_000
"""Nodes per second of the select stage on one core (examples/game24)."""

SLOTS_PER_EXECUTOR: Final = 2
"""The chart's ``executor.slots``."""

OPTIMISER_BYTES: Final = 12
"""Bytes per parameter of a checkpoint from which training resumes: float32 weights and AdamW's two moments."""


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """One stage. ``seconds``: None where a rate is unknown; ``bound_by``: the slowest part of a search.

    ``gpu_hours``: the GPUs that its pods hold (``spec.cluster.resources``), by its time; 0 without GPUs.
    """

    stage: Stage
    work: SearchCost = field(default_factory=SearchCost)
    train_tokens: float = 0.0
    seconds: float | None = None
    gpu_hours: float | None = None
    bound_by: str = ""


@dataclass(frozen=True, slots=True)
class Executors:
    """Executors that keep the policy busy during the rollout: programs per second, slots, and pods or processes."""

    programs_per_second: float
    slots: int
    replicas: int


@dataclass(frozen=True, slots=True)
class RoundEstimate:
    """What a round needs. ``storage``: bytes by kind of file; ``executors``: None where no rate is known."""

    name: str
    round: int
    stages: tuple[StageEstimate, ...]
    processes: tuple[ProcessEstimate, ...]
    storage: Mapping[str, float]
    executors: Executors | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds of all stages, one after the other; None where one is unknown."""
        return total(stage.seconds for stage in self.stages)

    @property
    def gpu_hours(self) -> float | None:
        """GPU hours of all stages; None where one is unknown."""
        return total(stage.gpu_hours for stage in self.stages)


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum, or None where a value is unknown."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known)


def estimate_round(planned: PlannedRound) -> RoundEstimate:
    """Return the estimate of a round."""
    rollout, evaluation = planned.rollout(), planned.evaluation()
    stages = (
        _searching(planned, Stage.ROLLOUT, rollout),
        _selecting(planned, rollout),
        _training(planned, Stage.TRAIN_POLICY),
        _training(planned, Stage.TRAIN_PPM),
        _searching(planned, Stage.EVALUATE, evaluation),
    )
    return RoundEstimate(
        planned.name,
        planned.spec.round,
        stages,
        processes(planned),
        _storage(planned, rollout, evaluation),
        _executors(planned, rollout),
    )


def _searching(planned: PlannedRound, stage: Stage, work: SearchCost) -> StageEstimate:
    """Policy and PPM work at the same time, on different problems, so the slower one decides."""
    if not work.tokens:
        return StageEstimate(stage, seconds=planned.assumptions.start_seconds, gpu_hours=0.0)
    resources, services = planned.spec.cluster.resources, planned.spec.services
    searches_elsewhere = stage is Stage.ROLLOUT and planned.searches_at_an_endpoint
    gpus = 0 if searches_elsewhere else services.policy.size * resources.policy.gpus
    rate = planned.rollout_rate if stage is Stage.ROLLOUT else planned.policy_rate
    parts = {"policy": _seconds(work.tokens, rate)}
    if work.scored:
        parts["PPM"] = _seconds(work.scored, planned.score_rate)
        gpus += services.ppm.size * resources.ppm.gpus
    known = {name: seconds for name, seconds in parts.items() if seconds is not None}
    if len(known) < len(parts):
        return StageEstimate(stage, work)
    slowest = max(known, key=lambda name: known[name])
    seconds = planned.assumptions.start_seconds + known[slowest]
    return StageEstimate(stage, work, seconds=seconds, gpu_hours=gpus * seconds / 3_600, bound_by=slowest)


def _selecting(planned: PlannedRound, rollout: SearchCost) -> StageEstimate:
    seconds = planned.assumptions.start_seconds + rollout.nodes / SELECTED_PER_SECOND
    return StageEstimate(Stage.SELECT, seconds=seconds, gpu_hours=0.0)


def _training(planned: PlannedRound, stage: Stage) -> StageEstimate:
    resources, assumed = planned.spec.cluster.resources, planned.assumptions
    spec: TrainingSpec
    if stage is Stage.TRAIN_POLICY:
        spec, node, rate = planned.spec.train_policy, resources.train_policy, assumed.sft_rate
    else:
        spec, node, rate = planned.spec.train_ppm, resources.train_ppm, assumed.ppm_rate
    tokens = planned.train_tokens(stage)
    if not tokens:
        return StageEstimate(stage, seconds=assumed.start_seconds, gpu_hours=0.0)
    worked = _seconds(tokens, None if rate is None else rate * spec.nodes * spec.processes_per_node)
    if worked is None:
        return StageEstimate(stage, train_tokens=tokens)
    seconds = assumed.start_seconds + worked
    hours = spec.nodes * node.gpus * seconds / 3_600
    return StageEstimate(stage, train_tokens=tokens, seconds=seconds, gpu_hours=hours)


def _executors(planned: PlannedRound, rollout: SearchCost) -> Executors | None:
    rate = planned.rollout_rate
    if rate is None or not rollout.tokens:
        return None
    programs = rate * rollout.executions / rollout.tokens
    slots = math.ceil(programs * planned.assumptions.program_seconds / BUSY)
    each = planned.spec.services.executor.slots or SLOTS_PER_EXECUTOR
    return Executors(programs, slots, math.ceil(slots / each))


def _storage(planned: PlannedRound, rollout: SearchCost, evaluation: SearchCost) -> dict[str, float]:
    """Return bytes by kind. A resumable checkpoint is stored before the one that it replaces is deleted."""
    parameters = planned.model.parameters
    trained = [Stage.TRAIN_POLICY, *([Stage.TRAIN_PPM] if planned.spec.trains_ppm else [])]
    return {
        "trees": rollout.nodes * planned.assumptions.bytes_per_node,
        "evaluation trees": evaluation.nodes * planned.assumptions.bytes_per_node,
        "checkpoints": sum(BYTES[stored_format(planned, stage)] for stage in trained) * parameters,
        "resume checkpoints, while training": 2 * OPTIMISER_BYTES * parameters,
    }


def _seconds(amount: float, rate: float | None) -> float | None:
    return None if rate is None else amount / rate

"""What an earlier round shows about a task and its machines: from its manifests, its ``run.json`` and a few shards of trees.

The rates are those of all processes of that round together. They come from the progress of the last attempt, so an attempt
that found finished shards does not count them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rstar.record import SearchRecord
from rstar.rounds.estimate.model_size import BYTES
from rstar.rounds.manifest import Manifest, read_manifest
from rstar.rounds.observed import Stage
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.stage import read_times
from rstar.store.digests import MANIFEST
from rstar.store.store import Store

SHARDS: Final = 5
"""Shards of trees that are read: 320 problems of a round with the default ``shardSize``."""

_CHECKPOINT: Final = "checkpoint/"


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A finished stage: its folder in the store, its manifest, and its times (``run.json``; {} where there is none)."""

    prefix: str
    manifest: Manifest
    run: Mapping[str, Any]

    @property
    def rate(self) -> float | None:
        """Tokens per second of the last attempt, where it reported them."""
        rate = (self.run.get("last_progress") or {}).get("tokens_per_second")
        return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None


def measured_round(store: Store, name: str | None = None) -> tuple[str, dict[Stage, FinishedStage]]:
    """Return the name and the finished stages of a round: ``name``, or the one whose rollout finished last.

    Raises ``ValueError`` with one sentence when there is no finished rollout.
    """
    rounds: dict[str, dict[Stage, FinishedStage]] = {}
    for round_name, stage in _finished(store, f"rounds/{name}/" if name else "rounds/"):
        of_round = rounds.setdefault(round_name, {})
        before = of_round.get(stage.manifest.stage)
        if before is None or _finished_at(stage) >= _finished_at(before):
            of_round[stage.manifest.stage] = stage
    complete = {key: stages for key, stages in rounds.items() if Stage.ROLLOUT in stages}
    if not complete:
        what = f"round {name} in the store {store.uri}" if name else f"the store {store.uri}"
        raise ValueError(f"{what} has no finished rollout to measure: give a store in which a round has run")
    last = max(complete, key=lambda key: _finished_at(complete[key][Stage.ROLLOUT]))
    return last, complete[last]


def _finished(store: Store, prefix: str) -> Iterator[tuple[str, FinishedStage]]:
    for key in store.list(prefix):
        parts = key.split("/")
        if len(parts) != 5 or parts[-1] != MANIFEST:
            continue
        folder = key.removesuffix(f"/{MANIFEST}")
        yield parts[1], FinishedStage(folder, read_manifest(store.read(key), key), read_times(store, folder))


def _finished_at(stage: FinishedStage) -> str:
    return str(stage.run.get("finished", ""))


def measured_values(
    store: Store, stages: Mapping[Stage, FinishedStage], spec: EvolutionRoundSpec
) -> dict[str, float | None]:
    """Return values for ``Assumptions``, for the model of the measured round; ``spec`` is that of the measured round, or of one with as many processes.

    The rates are divided by the numbers of its processes.
    """
    rollout = stages[Stage.ROLLOUT]
    metrics = rollout.manifest.metrics
    solved = metrics["coverage"] * metrics["problems"]
    texts = _texts(store, rollout)
    values: dict[str, float | None] = {"coverage": metrics["coverage"], **texts}
    values["node_bytes"] = sum(output.size for output in rollout.manifest.outputs) / max(metrics["nodes"], 1)
    values["policy_rate"] = _each(rollout.rate, spec.services.policy.size)
    if (select := stages.get(Stage.SELECT)) is not None and solved:
        figures = select.manifest.metrics
        values["pairs_per_solved"] = (figures["pairs_train"] + figures["pairs_held_out"]) / solved
    for stage, name, training in (
        (Stage.TRAIN_POLICY, "sft_rate", spec.train_policy),
        (Stage.TRAIN_PPM, "ppm_rate", spec.train_ppm),
    ):
        if (trained := stages.get(stage)) is not None:
            values[name] = _each(trained.rate, training.nodes * training.processes_per_node)
    if (sft := stages.get(Stage.TRAIN_POLICY)) is not None:
        figures = sft.manifest.metrics
        length = figures["train_tokens"] / figures["trained_examples"]
        values["prompt_tokens"] = max(length - texts["steps"] * texts["step_tokens"], 1.0)
    return values


def _texts(store: Store, rollout: FinishedStage) -> dict[str, float]:
    """Return the figures of the candidates in ``SHARDS`` shards of trees, evenly spread: problems may be sorted."""
    from rstar.store.tables import read_trees

    shards = [output.path for output in rollout.manifest.outputs]
    count = min(SHARDS, len(shards))
    records: list[SearchRecord] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"
        for i in range(count):
            store.download(f"{rollout.prefix}/{shards[(2 * i + 1) * len(shards) // (2 * count)]}", path)
            records += [record for _, record in read_trees(path)]
    return texts_of(records)


def texts_of(records: list[SearchRecord]) -> dict[str, float]:
    """Return steps per trajectory, tokens per step, and the shares of distinct and of valid candidates.

    Raises ``ValueError`` when no trajectory has an answer.
    """
    nodes = [node for record in records for node in record.nodes if node.parent >= 0]
    depths = [len(record.path(terminal)) for record in records for terminal in record.terminals()]
    if not depths:
        raise ValueError("no trajectory of the measured round has an answer: measure another round")
    kept, generated = sum(node.tokens for node in nodes), sum(record.usage.tokens for record in records)
    return {
        "steps": sum(depths) / len(depths),
        "step_tokens": kept / len(nodes),
        "distinct": min(kept / generated, 1.0),
        "valid": sum(node.valid for node in nodes) / len(nodes),
    }


def _each(rate: float | None, processes: int) -> float | None:
    return None if rate is None else rate / processes


def measured_parameters(store: Store, stages: Mapping[Stage, FinishedStage]) -> int | None:
    """Return the parameters of the round's policy, from the sizes of its files and its dtype; None: it is not there."""
    trained = stages.get(Stage.TRAIN_POLICY)
    if trained is None:
        return None
    try:
        config = json.loads(store.read(f"{trained.prefix}/{_CHECKPOINT}config.json"))
    except (KeyError, ValueError):
        return None
    weights = sum(
        output.size
        for output in trained.manifest.outputs
        if output.path.startswith(_CHECKPOINT) and output.path.endswith(".safetensors")
    )
    each = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
    return round(weights / each) or None

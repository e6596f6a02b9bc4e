"""The figures of one stage, and sentences about what a store does not hold yet: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rstar.report.data import RoundFigures, StageFigures
from rstar.report.stages import StageFolder
from rstar.rounds.observed import SKIPPED, Stage
from rstar.rounds.status import RoundStatus

_TOKENS: Final = {Stage.ROLLOUT: "tokens", Stage.TRAIN_POLICY: "train_tokens", Stage.TRAIN_PPM: "train_tokens"}


def stage_figures(stage: Stage, folder: StageFolder | None, status: RoundStatus | None) -> StageFigures:
    """Return the figures of a stage. ``folder``: None when the store holds nothing of it."""
    progress = status.progress if status is not None and status.stage == stage.value else {}
    if folder is None:
        return StageFigures(stage.value, "missing", "", None, None, "", progress, 0)
    metrics = folder.manifest.metrics if folder.manifest is not None else {}
    return StageFigures(
        stage=stage.value,
        state="unfinished" if folder.manifest is None else "done",
        manifest="" if folder.manifest is None else folder.manifest_key,
        seconds=_number(folder.times.get("seconds")),
        tokens=_tokens(stage, metrics),
        skipped=str(metrics.get(SKIPPED) or ""),
        progress=progress,
        other_folders=folder.others,
    )


def missing_parts(rounds: Iterable[RoundFigures]) -> Iterator[str]:
    """Yield a sentence for each round that lacks something."""
    for one in rounds:
        unfinished = [stage for stage in one.stages if stage.state == "unfinished"]
        missing = [stage.stage for stage in one.stages if stage.state == "missing"]
        for stage in unfinished:
            done = _how_far(stage, one)
            yield f"Round {one.name}: stage {stage.stage} has no manifest yet{done}; its figures are preliminary."
        if missing:
            yield f"Round {one.name}: the store holds nothing of {', '.join(missing)} yet."
        for stage in one.stages:
            if stage.skipped:
                yield f"Round {one.name}: stage {stage.stage} left out {stage.skipped}."
            if stage.other_folders:
                yield (
                    f"Round {one.name}: stage {stage.stage} has {stage.other_folders} more "
                    f"{'folder' if stage.other_folders == 1 else 'folders'} of other settings, which the report leaves out."
                )


def _how_far(stage: StageFigures, one: RoundFigures) -> str:
    if {"done", "total"} <= stage.progress.keys():
        return f" ({stage.progress['done']} of {stage.progress['total']})"
    searched = {
        trees.source: trees.problems
        for trees in one.trees
        if (trees.source == Stage.ROLLOUT) == (stage.stage == Stage.ROLLOUT)
    }
    if stage.stage not in {Stage.ROLLOUT, Stage.EVALUATE} or not searched:
        return ""
    parts = [
        f"{number} problems" + ("" if source == Stage.ROLLOUT else f" by {source}")
        for source, number in searched.items()
    ]
    return f" ({', '.join(parts)} stored)"


def _tokens(stage: Stage, metrics: Any) -> int | None:
    if stage is Stage.EVALUATE:
        methods = metrics.get("methods")
        if not isinstance(methods, list):
            return None
        return round(sum(float(method["tokens"]) * int(method["problems"]) for method in methods))
    found = _number(metrics.get(_TOKENS.get(stage, "")))
    return None if found is None else int(found)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None

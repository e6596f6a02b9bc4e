"""Which files of a store go where in the exported folders. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rstar.hub_export.made import MadeRound, MadeStage
from rstar.rounds.manifest import Output
from rstar.rounds.observed import Stage

Part = Literal["data", "policy", "ppm"]

CHECKPOINT: Final = "checkpoint/"
DATA: Final = "data"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the store: its key, and its entry in the manifest."""

    key: str
    output: Output


@dataclass(frozen=True, slots=True)
class TableShard:
    """A shard of a table. ``path``: of the exported file, with ``{split}`` where the rows themselves name it."""

    config: str
    round: str
    source: Source
    path: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class ModelExport:
    """A checkpoint. ``folder``: its name in the export; ``stage`` made it, of ``round``."""

    folder: str
    part: Part
    round: MadeRound
    stage: MadeStage
    files: tuple[Source, ...]

    @property
    def digest(self) -> str:
        """The checkpoint's digest, by which services and trees name it."""
        return self.stage.manifest.folder_digest(CHECKPOINT.rstrip("/"))


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """All files of an export."""

    rounds: tuple[MadeRound, ...]
    tables: tuple[TableShard, ...] = ()
    models: tuple[ModelExport, ...] = field(default=())


_OF_STAGE: Final = {
    Stage.ROLLOUT: {"trees/": ("trees", "train")},
    Stage.SELECT: {"sft/": ("sft", "train"), "pairs/": ("pairs", "{split}"), "difficulty/": ("difficulty", "train")},
    Stage.EVALUATE: {"results.parquet": ("evaluation", "test"), "trees/": ("evaluation-trees", "test")},
}
"""By the start of a file's path in its stage: the configuration of the data set, and the split."""

CONFIGS: Final = ("sft", "pairs", "trees", "difficulty", "evaluation", "evaluation-trees")
"""In the order of the card; the first that exists is the default."""


def plan_export(rounds: Sequence[MadeRound], parts: Sequence[Part]) -> ExportPlan:
    """Return the files of an export of ``rounds``."""
    tables = [shard for one in rounds for shard in _tables(one)] if "data" in parts else []
    models = [model for one in rounds for model in _models(one, parts)]
    return ExportPlan(tuple(rounds), tuple(tables), tuple(models))


def _tables(one: MadeRound) -> Iterator[TableShard]:
    for kind, tables in _OF_STAGE.items():
        stage = one.stages.get(kind)
        if stage is None:
            continue
        for start, (config, split) in tables.items():
            outputs = [output for output in stage.manifest.outputs if output.path.startswith(start)]
            for number, output in enumerate(sorted(outputs, key=lambda output: output.path)):
                # The number keeps its file when another shard is left out.
                path = f"{config}/{one.name}/{split}-{number:05d}.parquet"
                names = output.path.split("/")
                method = names[1] if config == "evaluation-trees" and len(names) == 3 else ""
                yield TableShard(config, one.name, Source(f"{stage.prefix}/{output.path}", output), path, method)


def _models(one: MadeRound, parts: Sequence[Part]) -> Iterator[ModelExport]:
    made: tuple[tuple[Part, Stage], ...] = (("policy", Stage.TRAIN_POLICY), ("ppm", Stage.TRAIN_PPM))
    for part, kind in made:
        stage = one.stages.get(kind)
        if part not in parts or stage is None:
            continue
        outputs = [output for output in stage.manifest.outputs if output.path.startswith(CHECKPOINT)]
        if outputs:
            files = tuple(Source(f"{stage.prefix}/{output.path}", output) for output in outputs)
            yield ModelExport(f"{one.name}-{part}", part, one, stage, files)

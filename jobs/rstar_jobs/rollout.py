"""Stage 1: search every training problem and store the trees (section 3.4).

Trees are stored in shards as they finish; a restart goes on with the missing shards. Problems without a right
trajectory are searched again with ``extraRollouts``, in turn, each time with a seed of its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord, Usage
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.stage import StageRun, stage_settings
from rstar.seeds import derive
from rstar_jobs.program import BadInputError, Invocation, base_model, load_problems, problems_digest, run
from rstar_jobs.progress import Meter
from rstar_jobs.searches import Phase, Shard, search_shards, shards_of
from rstar_jobs.shards import StoredShards


def search_config(spec: EvolutionRoundSpec, *, guided: bool) -> SearchConfig:
    """Return the settings of the first search of a problem: the PPM guides it exactly when it was given."""
    search = spec.search
    if search.method == "beam" and not guided:
        raise BadInputError("rollout.search.method beam ranks steps by the PPM, and no PPM guides this round; use mcts")
    return search.model_copy(update={"guidance": "ppm" if guided else "none"})


def phases(spec: EvolutionRoundSpec, config: SearchConfig, problem: Problem) -> list[Phase]:
    """Return the searches of one problem, in turn, while it is unsolved; seeds depend on nothing but names."""
    rollouts = (config.rollouts, *spec.search.extra_rollouts)
    return [
        Phase(config.model_copy(update={"rollouts": count}), derive(spec.seed, "rollout", spec.round, problem.id, turn))
        for turn, count in enumerate(rollouts)
    ]


@dataclass
class Tally:
    """What a rollout found and spent, one record at a time."""

    problems: int = 0
    solved: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, record: SearchRecord) -> None:
        """Count one problem."""
        self.problems += 1
        self.solved += record.solved
        self.failed += bool(record.error)
        self.usage += record.usage

    def metrics(self) -> dict[str, Any]:
        """Return the stage's metrics. ``coverage``: the share of the problems with a right trajectory."""
        return {
            "problems": self.problems,
            "solved": self.solved,
            "failed": self.failed,
            "coverage": round(self.solved / self.problems, 6),
            "rollouts": self.usage.rollouts,
            "tokens": self.usage.tokens,
            "nodes": self.usage.nodes,
            "executions": self.usage.executions,
        }


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Search what is not yet stored, then write the manifest."""
    spec = invocation.round.spec
    inputs = dict(invocation.inputs)
    for name in inputs:
        invocation.load(name)
    if spec.round > 1:
        invocation.need("policy")
    config = search_config(spec, guided="ppm" in inputs)
    problems = load_problems(spec.problems, invocation)
    sources = {"problems": problems_digest(problems)}
    if "policy" not in inputs:
        sources["base_model"] = base_model(invocation)[1]
    stage = StageRun(
        invocation.store,
        invocation.round.name,
        Stage.ROLLOUT,
        spec.seed,
        stage_settings(spec, Stage.ROLLOUT),
        inputs,
        sources,
    )
    if done := stage.finished():
        return done
    if not invocation.search:
        raise BadInputError("the rollout needs a search coordinator: give --search HOST:PORT")
    stored = StoredShards(stage, "trees")
    shards = [
        Shard(f"{number:05d}", part, lambda problem: phases(spec, config, problem), spec.verifier)
        for number, part in enumerate(shards_of(problems, spec.rollout.shard_size))
    ]
    missing = [shard for shard in shards if shard.name not in stored]
    outputs: list[Output] = []
    tally = Tally()

    def take(names: Sequence[str]) -> None:
        for output, searched in stored.read(names):
            outputs.append(output)
            for _, record in searched:
                tally.add(record)

    # What earlier attempts left counts in the progress from the start.
    take([shard.name for shard in shards if shard.name in stored])
    meter = Meter(invocation.progress, len(problems), tally.problems, tally.solved, "solved")
    asyncio.run(search_shards(invocation.search, missing, spec.rollout.concurrency, stored.put, meter))
    take([shard.name for shard in missing])
    return stage.finish(outputs, tally.metrics())


if __name__ == "__main__":
    sys.exit(run(Stage.ROLLOUT, work))

"""Stage 1: search every training problem and store the trees (section 3.4).

Trees are stored in shards as they finish; the next attempt searches only the missing shards. Problems without a correct
trajectory are searched again with ``extraRollouts``, in turn, each time with another seed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.readers.collect import Reading
from rstar.readers.overlap import described, overlaps
from rstar.record import SearchRecord, Usage
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.seeds import derive
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation, problems_digest
from rstar_jobs.program import run
from rstar_jobs.progress import Progress, SearchProgress
from rstar_jobs.search_work import Searched, SearchRun, Shard, shards_of
from rstar_jobs.searches import search_shards
from rstar_jobs.shards import StoredShards


def search_config(spec: EvolutionRoundSpec, *, guided: bool) -> SearchConfig:
    """Return the settings of a problem's first search: a PPM guides it exactly when there is one."""
    search = spec.search
    if search.method == "beam" and not guided:
        raise BadInputError("rollout.search.method beam ranks steps by the PPM, and no PPM guides this round; use mcts")
    return search.model_copy(update={"guidance": "ppm" if guided else "none"})


def search_runs(spec: EvolutionRoundSpec, config: SearchConfig, problem: Problem) -> list[SearchRun]:
    """Return the searches of one problem, in turn. Their seeds depend only on the round, the problem's id and the turn.

    ``extraRollouts`` are counted per problem, as in the paper, so an extra search grows one tree.
    """
    extra = [config.model_copy(update={"rollouts": n, "trajectories": 1}) for n in spec.search.extra_rollouts]
    return [
        SearchRun(turn_config, derive(spec.seed, "rollout", spec.round, problem.id, turn))
        for turn, turn_config in enumerate([config, *extra])
    ]


@dataclass
class Tally:
    """Counts and usage of searched problems; the order of the records does not matter.

    ``failures`` counts the steps that failed, by the kind of the reason: ``exception``, ``timeout``, ...
    """

    problems: int = 0
    solved: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, records: Iterable[SearchRecord]) -> None:
        """Count one problem per record."""
        for record in records:
            self.problems += 1
            self.solved += record.solved
            self.failed += bool(record.error)
            self.usage += record.usage
            self.failures.update(node.reason.partition(":")[0] for node in record.nodes if not node.valid)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.problems + other.problems,
            self.solved + other.solved,
            self.failed + other.failed,
            self.usage + other.usage,
            self.failures + other.failures,
        )

    def metrics(self) -> dict[str, Any]:
        """Return the stage's metrics. ``coverage``: the share of the problems with a correct trajectory."""
        return {
            "problems": self.problems,
            "solved": self.solved,
            "failed": self.failed,
            "coverage": round(self.solved / self.problems, 6),
            "rollouts": self.usage.rollouts,
            "tokens": self.usage.tokens,
            "nodes": self.usage.nodes,
            "executions": self.usage.executions,
            "failed_steps": dict(sorted(self.failures.items())),
        }


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Search the shards that are not yet stored, then write the manifest."""
    spec = invocation.spec
    for name in invocation.inputs:
        invocation.load(name)
    if spec.round > 1 and spec.rollout.policy is None:
        invocation.need("policy")
    given_ppm = spec.preference_model.model is not None
    config = search_config(spec, guided=given_ppm or "ppm" in invocation.inputs)
    # The round's first stage fixes the commits of all that the round reads from the hub.
    commits = invocation.hub_commits(spec.problems, spec.evaluate.problems, models=True)
    problems, left_out = training_problems(spec, invocation.problems)
    sources = {
        "problems": problems_digest(problems),
        **invocation.hub_commits(spec.problems),
        **invocation.prompt_parts(),
        **invocation.given_ppm(),
    }
    if "policy" not in invocation.inputs:
        sources |= invocation.searching_model()
    stage = invocation.open_stage(invocation.inputs, sources)
    if done := stage.finished():
        return done
    if not invocation.search:
        raise BadInputError("the rollout needs a search coordinator: give --search HOST:PORT")
    shards = [
        Shard(f"{number:05d}", part, lambda problem: search_runs(spec, config, problem), spec.verifier)
        for number, part in enumerate(shards_of(problems, spec.rollout.shard_size))
    ]
    outputs, tally = asyncio.run(
        search_and_count(invocation.search, shards, StoredShards(stage), spec.rollout.concurrency, invocation.progress)
    )
    return stage.finish(outputs, tally.metrics() | left_out | ({"hub_commits": commits} if commits else {}))


def training_problems(
    spec: EvolutionRoundSpec, read: Callable[[ProblemsSpec], Reading]
) -> tuple[list[Problem], dict[str, int]]:
    """Return the problems to search and the numbers of those that are not, or that overlap with the evaluation's.

    A problem without an answer and without data for a verifier teaches nothing. Raises ``BadInputError`` when none is
    left, and for an overlap that the spec does not allow.
    """
    reading = read(spec.problems)
    given = reading.problems
    problems = [problem for problem in given if problem.answer is not None or problem.data]
    if not problems:
        raise BadInputError(
            f"none of the {len(given)} training problems has an answer: training needs verified answers"
        )
    counts = {"without_answer": len(given) - len(problems), "overlap": 0, **reading.metrics()}
    evaluation = spec.evaluate
    if evaluation.problems is None or not evaluation.methods:
        return problems, counts
    found = overlaps(problems, read(evaluation.problems).problems)
    counts["overlap"] = len(found)
    if found and evaluation.overlap == "refuse":
        raise BadInputError(
            f"{len(found)} training problems are also among evaluate.problems ({described(found)}): remove them, or set "
            "evaluate.overlap to drop (leaves them out of training) or allow"
        )
    if evaluation.overlap == "drop":
        dropped = {overlap.training_id for overlap in found}
        problems = [problem for problem in problems if problem.id not in dropped]
        if not problems:
            raise BadInputError("every training problem is also among evaluate.problems: use other problems")
    return problems, counts


async def search_and_count(
    addresses: Sequence[str], shards: Sequence[Shard], stored: StoredShards, concurrency: int, progress: Progress
) -> tuple[list[Output], Tally]:
    """Search and store the missing shards; return the manifest's entries and the counts of all shards.

    Only what earlier attempts stored is read, once; the other shards are counted as they are stored.
    """
    outputs: dict[str, Output] = {}
    tallies: dict[str, Tally] = {}
    failed: list[Searched] = []

    def count(shard: Shard, output: Output, records: list[SearchRecord]) -> None:
        outputs[shard.name], tallies[shard.name] = output, Tally()
        tallies[shard.name].add(records)

    earlier, missing = stored.split(shards)
    for shard, output, searched in stored.read(earlier):
        records = [record for _, record in searched]
        count(shard, output, records)
        if tallies[shard.name].failed:
            failed.append((shard, records))

    async def store(shard: Shard, records: list[SearchRecord]) -> None:
        count(shard, await asyncio.to_thread(stored.put, shard, records), records)

    partial = stored.read_partial(missing)
    before = sum(tallies.values(), Tally())
    for found in partial.values():
        before.add(found.values())
    total = sum(len(shard.problems) for shard in shards)
    counts = SearchProgress(progress, total=total, done=before.problems, successes=before.solved, key="solved")
    await search_shards(
        addresses, missing, concurrency, store, counts, stored.put_partial, failed_before=failed, partial=partial
    )
    return list(outputs.values()), sum(tallies.values(), Tally())


if __name__ == "__main__":
    sys.exit(run(Stage.ROLLOUT, work))

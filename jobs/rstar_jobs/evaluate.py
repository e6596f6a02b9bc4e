"""Stage 5: the round's models on held-out problems, one row per method and problem.

The search gets no verifier, as at inference; the answers are judged here, afterwards. A problem without an
answer, or whose search failed, counts as wrong. Accuracy and generated tokens are always reported together.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.evaluation import Outcome, judge, summarise
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvaluationMethod, EvolutionRoundSpec
from rstar.rounds.stage import StageRun, stage_settings
from rstar.rounds.validation_errors import nearest
from rstar.seeds import derive
from rstar.store.tables import write_rows
from rstar.verify import verifier, verifier_names
from rstar_jobs.program import BadInputError, Invocation, load_problems, problems_digest, run
from rstar_jobs.progress import Meter
from rstar_jobs.searches import Phase, Shard, search_shards, shards_of
from rstar_jobs.shards import StoredShards

SHARD_SIZE = 64

RESULTS = pa.schema(
    [
        ("method", pa.string()),
        ("problem_id", pa.string()),
        ("correct", pa.bool_()),
        ("any", pa.bool_()),
        ("tokens", pa.int64()),
        ("nodes", pa.int64()),
        ("error", pa.string()),
    ]
)
"""``correct``: the chosen answer is right; ``any``: some trajectory is; ``tokens`` were generated for the problem."""


def evaluation_shards(spec: EvolutionRoundSpec, problems: list[Problem]) -> list[Shard]:
    """Return the work: every method on every problem. All methods share a problem's seed."""

    def shard(method: EvaluationMethod, number: int, part: tuple[Problem, ...]) -> Shard:
        def phases(problem: Problem) -> list[Phase]:
            return [Phase(method, derive(spec.seed, "evaluate", problem.id))]

        return Shard(f"{method.name}/{number:05d}", part, phases)

    parts = list(shards_of(problems, SHARD_SIZE))
    return [shard(method, number, part) for method in spec.evaluate.methods for number, part in enumerate(parts)]


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Search with every method, judge, and write the table."""
    spec = invocation.round.spec
    inputs = {name: invocation.need(name) for name in ("policy", "ppm") if name in invocation.inputs}
    for name in ("policy", *inputs):
        invocation.load(name)
    for method in spec.evaluate.methods:
        if method.guidance == "ppm" and "ppm" not in inputs:
            raise BadInputError(f"evaluate.methods {method.name}: guidance is ppm, but there is no input ppm")
    if spec.verifier not in verifier_names():
        raise BadInputError(
            f"spec.verifier: unknown verifier {spec.verifier!r}{nearest(spec.verifier, verifier_names())}"
        )
    wanted = spec.evaluate.problems if spec.evaluate.methods else None
    problems = [] if wanted is None else load_problems(wanted, invocation)
    stage = StageRun(
        invocation.store,
        invocation.round.name,
        Stage.EVALUATE,
        spec.seed,
        stage_settings(spec, Stage.EVALUATE),
        inputs,
        {"problems": problems_digest(problems)} if problems else {},
    )
    if done := stage.finished():
        return done
    if not problems:
        return stage.finish([], {})
    if not invocation.search:
        raise BadInputError("the evaluation needs a search coordinator: give --search HOST:PORT")
    stored = StoredShards(stage, "trees")
    shards = evaluation_shards(spec, problems)
    outputs, outcomes = asyncio.run(_search_and_judge(invocation, stored, shards))
    rows = [{"method": name, **asdict(outcome)} for name, found in outcomes.items() for outcome in found]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "results.parquet"
        write_rows(table, rows, RESULTS)
        outputs.append(stage.upload(table, table.name))
    methods = [summarise(method.name, outcomes[method.name]).metrics() for method in spec.evaluate.methods]
    return stage.finish(outputs, {"problems": len(problems), "methods": methods})


async def _search_and_judge(
    invocation: Invocation, stored: StoredShards, shards: list[Shard]
) -> tuple[list[Output], dict[str, list[Outcome]]]:
    """Return the entries of the shards for the manifest, and the outcomes by method, in the order of the problems."""
    spec = invocation.round.spec
    missing = [shard for shard in shards if shard.name not in stored]
    outputs: list[Output] = []
    judged: dict[str, list[Outcome]] = {}
    referee = verifier(spec.verifier)

    async def judge_stored(names: list[str]) -> None:
        for name, (output, searched) in zip(names, stored.read(names), strict=True):
            outputs.append(output)
            found = (judge(problem, record, referee) for problem, record in searched)
            judged[name] = list(await asyncio.gather(*found))

    async def right(problem: Problem, record: SearchRecord) -> bool:
        answer = record.nodes[record.chosen].answer if record.chosen >= 0 else None
        return answer is not None and (await referee.verify(problem, answer)).correct

    try:
        # What earlier attempts left counts in the progress from the start.
        await judge_stored([shard.name for shard in shards if shard.name in stored])
        before = [outcome for found in judged.values() for outcome in found]
        total = sum(len(shard.problems) for shard in shards)
        meter = Meter(invocation.progress, total, len(before), sum(outcome.correct for outcome in before), "correct")
        await search_shards(invocation.search, missing, spec.evaluate.concurrency, stored.put, meter, right)
        await judge_stored([shard.name for shard in missing])
    finally:
        await referee.close()
    outcomes: dict[str, list[Outcome]] = {}
    for shard in shards:
        outcomes.setdefault(shard.name.partition("/")[0], []).extend(judged[shard.name])
    return outputs, outcomes


if __name__ == "__main__":
    sys.exit(run(Stage.EVALUATE, work))

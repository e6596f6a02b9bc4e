"""Stage 5: the round's models on held-out problems, one row per method and problem.

The search has no verifier, as at inference; each answer is graded when its search is finished. A problem without an
answer, or with a failed search, counts as wrong. Accuracy and generated tokens are always reported together.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from rstar.interfaces import Verifier
from rstar.problem import Problem
from rstar.readers import Reading
from rstar.record import SearchRecord
from rstar.rounds.evaluation import ProblemResult, compared, grade
from rstar.rounds.manifest import Manifest, Output
from rstar.rounds.observed import SKIPPED, ManifestRef, Stage
from rstar.rounds.shared_samples import rechosen, sampled_by
from rstar.rounds.spec import EvaluationMethod, EvolutionRoundSpec
from rstar.rounds.validation_errors import nearest
from rstar.seeds import derive
from rstar.store.tables import write_rows
from rstar.verify import equivalence, verifier, verifier_names
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation, problems_digest
from rstar_jobs.program import run
from rstar_jobs.progress import Progress, SearchProgress
from rstar_jobs.search_work import Searched, SearchRun, Shard, shards_of
from rstar_jobs.searches import search_shards
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
        ("scored", pa.int64()),
    ]
)
"""``correct``: the chosen answer is correct; ``any``: some trajectory is; ``tokens``: generated for the problem;
``scored``: steps that the PPM scored."""


def evaluation_shards(spec: EvolutionRoundSpec, problems: list[Problem]) -> list[Shard]:
    """Return every method on every problem, in shards ``<method>/<number>``. All methods share a problem's seed."""

    def shard(method: EvaluationMethod, number: int, part: tuple[Problem, ...]) -> Shard:
        def runs(problem: Problem) -> list[SearchRun]:
            return [SearchRun(method, derive(spec.seed, "evaluate", problem.id))]

        return Shard(f"{method.name}/{number:05d}", part, runs, equivalence=spec.verifier)

    parts = list(shards_of(problems, SHARD_SIZE))
    return [shard(method, number, part) for method in spec.evaluate.methods for number, part in enumerate(parts)]


def shared_shards(spec: EvolutionRoundSpec, shards: Sequence[Shard]) -> dict[str, tuple[EvaluationMethod, Shard]]:
    """Return, by name, the shards whose method chooses among the samples of another one: that method, and the samples."""
    methods = {method.name: method for method in spec.evaluate.methods}
    by_name = {shard.name: shard for shard in shards}
    shared = {}
    for name in by_name:
        of_method, _, number = name.partition("/")
        method = methods[of_method]
        source = sampled_by(method, spec.evaluate.methods)
        if source is not method:
            shared[name] = (method, by_name[f"{source.name}/{number}"])
    return shared


def runnable(spec: EvolutionRoundSpec, ppm: Manifest | None) -> tuple[EvolutionRoundSpec, dict[str, str]]:
    """Return the spec without the methods that need the PPM if the round trained none, and the metrics that name them."""
    reason = ppm.metrics.get(SKIPPED) if ppm is not None else None
    guided = spec.guided_methods
    if not reason or not guided or spec.preference_model.model is not None:
        return spec, {}
    methods = tuple(method for method in spec.evaluate.methods if method.guidance != "ppm")
    evaluate = spec.evaluate.model_copy(update={"methods": methods})
    skipped = {SKIPPED: f"{', '.join(guided)}: guided by a PPM, but {reason}"}
    return spec.model_copy(update={"evaluate": evaluate}), skipped


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest]:
    """Search with every method, grade the answers, and write the table."""
    spec = invocation.spec
    inputs = [name for name in ("policy", "ppm") if name in invocation.inputs]
    manifests = {name: invocation.load(name) for name in ("policy", *inputs)}
    for name in spec.guided_methods if "ppm" not in inputs else ():
        raise BadInputError(f"evaluate.methods {name}: guidance is ppm, but there is no input ppm")
    spec, skipped = runnable(spec, manifests.get("ppm"))
    if spec.verifier not in verifier_names():
        raise BadInputError(
            f"spec.verifier: unknown verifier {spec.verifier!r}{nearest(spec.verifier, verifier_names())}"
        )
    source = spec.evaluate.problems if spec.evaluate.methods else None
    reading = Reading() if source is None else invocation.problems(source)
    problems = reading.problems
    sources = {"problems": problems_digest(problems), **invocation.hub_commits(source)} if problems else {}
    if problems and spec.guided_methods:
        sources |= invocation.given_ppm()
    stage = invocation.open_stage(inputs, sources)
    if done := stage.finished():
        return done
    if not problems:
        return stage.finish([], skipped)
    if not invocation.search:
        raise BadInputError("the evaluation needs a search coordinator: give --search HOST:PORT")

    async def evaluate() -> tuple[list[Output], dict[str, list[ProblemResult]]]:
        grader = verifier(spec.verifier)
        shards, stored = evaluation_shards(spec, problems), StoredShards(stage)
        try:
            return await search_and_grade(invocation.search, shards, stored, spec, grader, invocation.progress)
        finally:
            await grader.close()

    outputs, results = asyncio.run(evaluate())
    rows = [{"method": name, **asdict(result)} for name, of_method in results.items() for result in of_method]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "results.parquet"
        write_rows(table, rows, RESULTS)
        outputs.append(stage.upload(table, table.name))
    methods = [
        row.metrics() for row in compared({method.name: results[method.name] for method in spec.evaluate.methods})
    ]
    return stage.finish(outputs, {"problems": len(problems), "methods": methods, **skipped, **reading.metrics()})


async def search_and_grade(
    addresses: Sequence[str],
    shards: Sequence[Shard],
    stored: StoredShards,
    spec: EvolutionRoundSpec,
    grader: Verifier,
    progress: Progress,
) -> tuple[list[Output], dict[str, list[ProblemResult]]]:
    """Search and store the missing shards; return the manifest's entries and all results by method, in problem order.

    Every record is graded once: as its search finishes, or when a shard of an earlier attempt is read. Methods that choose
    among the same samples are searched once, and choose at the end.
    """
    shared = shared_shards(spec, shards)
    outputs: dict[str, Output] = {}
    results: dict[tuple[str, str], ProblemResult] = {}
    failed: list[Searched] = []

    async def is_correct(shard: Shard, problem: Problem, record: SearchRecord) -> bool:
        result = results[shard.name, problem.id] = await grade(problem, record, grader)
        return result.correct

    async def store(shard: Shard, records: list[SearchRecord]) -> None:
        outputs[shard.name] = await asyncio.to_thread(stored.put, shard, records)

    earlier, new = stored.split(shards)
    missing = [shard for shard in new if shard.name not in shared]
    for shard, output, searched in stored.read(earlier):
        outputs[shard.name] = output
        await asyncio.gather(*(is_correct(shard, problem, record) for problem, record in searched))
        if any(record.error for _, record in searched):
            failed.append((shard, [record for _, record in searched]))
    partial = stored.read_partial(missing)
    for shard in (shard for shard in missing if shard.name in partial):
        found = partial[shard.name].items()
        await asyncio.gather(*(is_correct(shard, shard.problems[i], record) for i, record in found))
    counts = SearchProgress(
        progress,
        total=sum(len(shard.problems) for shard in (*earlier, *missing)),
        done=len(results),
        successes=sum(result.correct for result in results.values()),
        key="correct",
    )
    await search_shards(
        addresses,
        missing,
        spec.evaluate.concurrency,
        store,
        counts,
        stored.put_partial,
        is_correct,
        failed_before=failed,
        partial=partial,
    )
    same = equivalence(spec.verifier)
    for shard in (shard for shard in new if shard.name in shared):
        method, samples = shared[shard.name]
        [(_, _, drawn)] = stored.read([samples])
        records = await asyncio.gather(*(rechosen(record, method, same) for _, record in drawn))
        await store(shard, records)
        await asyncio.gather(*(is_correct(shard, *row) for row in zip(shard.problems, records, strict=True)))
    by_method: dict[str, list[ProblemResult]] = {}
    for shard in shards:
        of_shard = (results[shard.name, problem.id] for problem in shard.problems)
        by_method.setdefault(shard.name.partition("/")[0], []).extend(of_shard)
    return list(outputs.values()), by_method


if __name__ == "__main__":
    sys.exit(run(Stage.EVALUATE, work))

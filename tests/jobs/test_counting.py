"""Each record is read and graded once: rollout counts the shards as it stores them, evaluation grades as it searches."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rstar_jobs.evaluate import evaluation_shards, search_and_grade
from rstar_jobs.progress import Progress, ProgressFile, SearchProgress
from rstar_jobs.rollout import Tally, search_and_count, search_config, search_runs
from rstar_jobs.search_work import Shard, shards_of
from rstar_jobs.searches import search_shards
from rstar_jobs.shards import StoredShards

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.evaluation import grade
from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.stage import StageRun, stage_settings
from rstar.store.folder_store import FolderStore
from rstar.store.store import StoreError
from rstar.store.tables import read_trees
from tests.support.jobs.coordinator import GatedPolicy, coordinator
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.scripted import SumVerifier

PROBLEMS = [Problem(f"p{i}", "which digits add up?", str(12 + i)) for i in range(6)]
METHODS = [{"name": "majority", "method": "majority", "rollouts": 6}, {"name": "greedy", "method": "greedy"}]


class RecordingStore(FolderStore):
    """A folder store that records the keys of downloaded trees tables."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.downloads: list[str] = []

    def download(self, key: str, path: Path) -> None:
        self.downloads.append(key)
        super().download(key, path)


class RecordingVerifier(SumVerifier):
    """A verifier that records the problems and answers it is asked about."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        self.asked.append((problem.id, answer))
        return await super().verify(problem, answer)


def spec_of(folder: Path) -> EvolutionRoundSpec:
    rollout = {"search": {"rollouts": 8, "candidates": 4}, "shardSize": 2, "concurrency": 3}
    return StageWorkspace(folder, rollout=rollout, evaluate={"methods": METHODS, "concurrency": 2}).round.spec


def stage_in(folder: Path, stage: Stage, spec: EvolutionRoundSpec) -> tuple[StageRun, RecordingStore]:
    store = RecordingStore(folder)
    return StageRun(store, "r1", stage, spec.seed, stage_settings(spec, stage)), store


def tables(stage: StageRun) -> list[str]:
    return [key for key in stage.store.list(stage.key("trees/")) if key.endswith(".parquet")]


def unfinished(stage: StageRun) -> list[str]:
    return list(stage.store.list(stage.key("partial/")))


def refuse(key: str) -> None:
    raise StoreError(f"{key}: access denied")


async def roll_out(
    address: str, stage: StageRun, spec: EvolutionRoundSpec, progress: Path
) -> tuple[ManifestRef, Manifest]:
    config = search_config(spec, guided=False)
    shards = [
        Shard(f"{number:05d}", part, lambda problem: search_runs(spec, config, problem), spec.verifier)
        for number, part in enumerate(shards_of(PROBLEMS, spec.rollout.shard_size))
    ]
    report = Progress(ProgressFile(progress), "rollout")
    outputs, tally = await search_and_count([address], shards, StoredShards(stage), spec.rollout.concurrency, report)
    return stage.finish(outputs, tally.metrics())


@pytest.mark.parametrize("earlier", [(), (0,), (2,), (0, 2), (0, 1, 2)], ids=str)
async def test_a_rollout_reads_only_the_shards_of_earlier_attempts_and_its_manifest_is_the_same(
    tmp_path: Path, earlier: Sequence[int]
) -> None:
    spec = spec_of(tmp_path)
    whole, store = stage_in(tmp_path / "whole", Stage.ROLLOUT, spec)
    resumed, resumed_store = stage_in(tmp_path / "resumed", Stage.ROLLOUT, spec)
    # The first shard is stored last.
    policy = GatedPolicy(delayed=["p0"])
    async with coordinator(policy) as address:
        running = asyncio.ensure_future(roll_out(address, whole, spec, tmp_path / "progress"))
        while len(tables(whole)) < 2:
            if running.done():
                running.result()  # raises the error of a rollout that ended early
            await asyncio.sleep(0.01)
        policy.gate.set()
        ref, manifest = await running
        for number in earlier:
            key = tables(whole)[number]
            resumed_store.write(key, store.read(key))
        kept = [tables(whole)[number] for number in earlier]
        assert (ref, manifest) == await roll_out(address, resumed, spec, tmp_path / "progress")
    assert (store.downloads, resumed_store.downloads) == ([], kept)
    counted = Tally()
    for key in tables(whole):
        counted.add(record for _, record in read_trees(store.path(key)))
    assert manifest.metrics == counted.metrics()


@pytest.mark.parametrize("partial", ["whole", "damaged", "not deletable"])
async def test_the_finished_problems_of_an_unfinished_shard_are_not_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: str
) -> None:
    spec = spec_of(tmp_path)
    whole, _ = stage_in(tmp_path / "whole", Stage.ROLLOUT, spec)
    resumed, store = stage_in(tmp_path / "resumed", Stage.ROLLOUT, spec)
    policy = GatedPolicy(delayed=["p1", "p2"])
    async with coordinator(policy) as address:
        running = asyncio.ensure_future(roll_out(address, resumed, spec, tmp_path / "progress"))
        while len(tables(resumed)) < 1:  # of p4 and p5: p1 and p2 hold the other two
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [Path(key).name for key in unfinished(resumed)] == ["00000.parquet", "00001.parquet"]
        assert all(len(read_trees(store.path(key))) == 1 for key in unfinished(resumed))
        if partial == "damaged":
            store.write(unfinished(resumed)[0], b"PAR1 is not all of it")
        if partial == "not deletable":
            monkeypatch.setattr(store, "delete", refuse)
        policy.gate.set()
        policy.asked.clear()
        again = await roll_out(address, resumed, spec, tmp_path / "progress")
        assert policy.asked == {"p1", "p2"} | ({"p0"} if partial == "damaged" else set())
        assert again == await roll_out(address, whole, spec, tmp_path / "progress")
    assert bool(unfinished(resumed)) is (partial == "not deletable")


async def test_an_interrupted_evaluation_grades_what_it_stored_and_ends_with_the_same_results(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    stage, _ = stage_in(tmp_path / "store", Stage.EVALUATE, spec)
    whole, _ = stage_in(tmp_path / "whole", Stage.EVALUATE, spec)
    shards, policy = evaluation_shards(spec, PROBLEMS), GatedPolicy(delayed=["p4"])

    async def graded(of: StageRun, address: str) -> tuple[Any, dict[str, Any]]:
        progress = tmp_path / "progress"
        report = Progress(ProgressFile(progress), "evaluate")
        outputs, results = await search_and_grade([address], shards, StoredShards(of), spec, SumVerifier(), report)
        return (sorted(outputs, key=lambda output: output.path), results), json.loads(progress.read_text())

    async with coordinator(policy) as address:
        running = asyncio.ensure_future(graded(stage, address))
        while policy.asked < {problem.id for problem in PROBLEMS}:
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [Path(key).name for key in unfinished(stage)]
        policy.gate.set()
        policy.asked.clear()
        resumed, report = await graded(stage, address)
        assert resumed == (await graded(whole, address))[0]
    assert (report["done"], report["total"]) == (12, 12)
    assert report["correct"] == sum(result.correct for results in resumed[1].values() for result in results)
    assert unfinished(stage) == []


@pytest.mark.parametrize("error", [None, StoreError("no answer"), OSError("no space left on device")])
async def test_finished_problems_are_stored_while_their_shard_is_searched(
    tmp_path: Path, error: Exception | None
) -> None:
    spec = spec_of(tmp_path)
    stage, store = stage_in(tmp_path / "store", Stage.ROLLOUT, spec)
    stored, config, policy = StoredShards(stage), search_config(spec, guided=False), GatedPolicy(delayed=["p0"])
    shard = Shard("00000", tuple(PROBLEMS[:4]), lambda problem: search_runs(spec, config, problem), spec.verifier)
    counts = SearchProgress(
        Progress(ProgressFile(tmp_path / "progress"), "rollout"), total=4, done=0, successes=0, key="solved"
    )

    async def put(shard: Shard, records: list[SearchRecord]) -> None:
        stored.put(shard, records)

    failures = [error] if error is not None else []

    def put_partial(shard: Shard, records: Mapping[int, SearchRecord]) -> None:
        if failures:
            raise failures.pop()
        stored.put_partial(shard, records)

    async with coordinator(policy) as address:
        search = search_shards([address], [shard], 4, put, counts, put_partial, save_seconds=0.02)
        running = asyncio.ensure_future(search)
        while not (found := unfinished(stage)) or len(read_trees(store.path(found[0]))) < 3:
            assert not running.done()
            await asyncio.sleep(0.01)
        policy.gate.set()
        await running
    assert len(tables(stage)) == 1
    assert unfinished(stage) == []


async def test_an_evaluation_grades_each_answer_once_and_resumes_with_the_same_results(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    stage, store = stage_in(tmp_path / "store", Stage.EVALUATE, spec)
    shards = evaluation_shards(spec, PROBLEMS)
    progress = Progress(ProgressFile(tmp_path / "progress"), "evaluate")
    async with coordinator() as address:
        for earlier in (0, 1, 2):
            store.downloads.clear()
            for key in tables(stage)[earlier:]:
                store.delete(key)
            verifier = RecordingVerifier()
            graded = await search_and_grade([address], shards, StoredShards(stage), spec, verifier, progress)
            # Both methods may find the same answer, so that it is asked about once for each.
            asked = Counter(verifier.asked)
            assert len(store.downloads) == earlier
            assert len(asked) > len(PROBLEMS)
            expected: Counter[tuple[str, str]] = Counter()
            for key, (method, results) in zip(sorted(tables(stage)), sorted(graded[1].items()), strict=True):
                again = RecordingVerifier()
                searched = read_trees(store.path(key))
                assert key.endswith(f"trees/{method}/00000.parquet")
                assert results == [await grade(problem, record, again) for problem, record in searched]
                assert max(Counter(again.asked).values()) == 1
                expected.update(again.asked)
            assert asked == expected
            assert [output.path for output in sorted(graded[0], key=lambda output: output.path)] == [
                f"trees/{name}/00000.parquet" for name in ("greedy", "majority")
            ]

"""Rollout, select and evaluate as processes, with a real coordinator and a scripted policy and executor."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rstar.record import SearchRecord
from rstar.rounds.observed import ManifestRef
from rstar.store.digests import checkpoint_digest, file_digest
from rstar.store.tables import read_pairs, read_sft, read_trees
from tests.support.jobs.coordinator import GatedPolicy, coordinator
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.scripted import ClosenessModel

NO_MODEL = f"hf:none/needed@{'0' * 40}"
SEARCH = {"rollouts": 8, "candidates": 4}


class RunningStage:
    """A stage program as a running process."""

    def __init__(self, workspace: StageWorkspace, process: asyncio.subprocess.Process) -> None:
        self.workspace, self.process = workspace, process

    async def ended(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return its exit code and result."""
        _, errors = await asyncio.wait_for(self.process.communicate(), 60)
        assert self.workspace.result.exists(), errors.decode()
        return self.process.returncode or 0, self.workspace.outcome()

    async def logged(self, words: str) -> None:
        """Wait for a line with ``words`` in its log."""
        assert self.process.stderr is not None
        while words not in (line := (await self.process.stderr.readline()).decode()):
            assert line, f"it ended without logging {words!r}"

    async def stored(self, suffix: str) -> None:
        """Wait for a key with this suffix in the store."""
        while not any(key.endswith(suffix) for key in self.workspace.store.list("")):
            assert self.process.returncode is None
            await asyncio.sleep(0.02)


async def start(workspace: StageWorkspace, stage: str, inputs: dict[str, ManifestRef], *more: str) -> RunningStage:
    workspace.result.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"rstar_jobs.{stage}", *workspace.arguments(inputs, *more)]
    return RunningStage(workspace, await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE))


async def run(
    workspace: StageWorkspace, stage: str, inputs: dict[str, ManifestRef], *more: str
) -> tuple[int, dict[str, Any]]:
    return await (await start(workspace, stage, inputs, *more)).ended()


def new_workspace(folder: Path, problems: int = 6, **changes: Any) -> StageWorkspace:
    folder.mkdir(exist_ok=True)
    rollout = {"search": SEARCH, "shardSize": 2, "concurrency": 3}
    workspace = StageWorkspace(folder, **{"rollout": rollout, "baseModel": NO_MODEL, **changes})
    rows = [{"id": f"p{i}", "question": "which digits add up?", "answer": str(12 + i)} for i in range(problems)]
    workspace.problems.write_text("\n".join(map(json.dumps, rows)))
    return workspace


def records(workspace: StageWorkspace) -> dict[str, SearchRecord]:
    prefix = workspace.ref().prefix
    keys = [key for key in workspace.store.list(f"{prefix}/trees/") if key.endswith(".parquet")]
    return {problem.id: record for key in keys for problem, record in read_trees(workspace.store.path(key))}


async def test_every_problem_is_searched_and_the_same_seed_gives_the_same_manifest(tmp_path: Path) -> None:
    refs = []
    async with coordinator() as address:
        for name in ("a", "b"):
            workspace = new_workspace(tmp_path / name, problems=5)
            code, result = await run(workspace, "rollout", {}, "--search", address)
            assert code == 0
            refs.append(workspace.ref())
    assert refs[0] == refs[1]
    found = records(workspace)
    assert sorted(found) == [f"p{i}" for i in range(5)]
    assert [Path(key).name for key in workspace.store.list(f"{workspace.ref().prefix}/trees/")] == [
        "00000.parquet",
        "00001.parquet",
        "00002.parquet",
    ]
    metrics = result["metrics"]
    assert metrics["solved"] == sum(record.solved for record in found.values())
    assert metrics["coverage"] == metrics["solved"] / 5
    assert metrics["tokens"] == sum(record.usage.tokens for record in found.values()) > 0
    progress = json.loads(workspace.progress.read_text())
    assert (progress["done"], progress["total"], progress["tokens"]) == (5, 5, metrics["tokens"])


async def test_after_sigkill_only_the_missing_shards_are_searched_again(tmp_path: Path) -> None:
    whole, killed = new_workspace(tmp_path / "whole"), new_workspace(tmp_path / "killed")
    policy = GatedPolicy(delayed=["p3"])
    async with coordinator(policy) as address:
        first = await start(killed, "rollout", {}, "--search", address)
        await first.stored("trees/00000.parquet")
        first.process.kill()
        await first.process.wait()
        assert not killed.result.exists()
        policy.gate.set()
        policy.asked.clear()
        assert (await run(killed, "rollout", {}, "--search", address))[0] == 0
        assert not {"p0", "p1"} & policy.asked
        assert {"p2", "p3"} <= policy.asked
        progress = json.loads(killed.progress.read_text())
        assert (progress["done"], progress["solved"]) == (6, killed.outcome()["metrics"]["solved"])
        await run(whole, "rollout", {}, "--search", address)
    assert killed.ref() == whole.ref()


async def test_after_sigterm_running_shards_are_finished_and_no_other_is_started(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, rollout={"search": SEARCH, "shardSize": 2, "concurrency": 2})
    policy = GatedPolicy(delayed=["p2", "p3"])
    async with coordinator(policy) as address:
        program = await start(workspace, "rollout", {}, "--search", address)
        await program.stored("trees/00000.parquet")
        await policy.waiting.wait()
        program.process.terminate()
        await program.logged("finishing the running shards")
        policy.gate.set()
        code, result = await program.ended()
    assert (code, result["exit_code"]) == (143, 143)
    assert [Path(key).name for key in workspace.store.list("")] == ["run.json", "00000.parquet", "00001.parquet"]
    assert not {"p4", "p5"} & policy.asked


async def test_a_problem_that_fails_stops_no_other(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    async with coordinator(GatedPolicy(failing=["p2"])) as address:
        code, result = await run(workspace, "rollout", {}, "--search", address)
    assert (code, result["metrics"]["failed"]) == (0, 1)
    found = records(workspace)
    assert "the model is broken" in found["p2"].error
    assert all(not record.error for name, record in found.items() if name != "p2")


async def test_when_most_problems_fail_the_stage_fails(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    async with coordinator(GatedPolicy(failing=["p2", "p3", "p4", "p5"])) as address:
        code, result = await run(workspace, "rollout", {}, "--search", address)
    assert code == 1
    assert "4 of 6 problems failed" in result["error"]
    assert "the model is broken" in result["error"]
    assert not any(key.endswith("00002.parquet") for key in workspace.store.list(""))


async def test_a_failed_problem_is_searched_once_more_at_the_end_of_the_stage_and_by_the_next_attempt(
    tmp_path: Path,
) -> None:
    workspace, whole = new_workspace(tmp_path / "a"), new_workspace(tmp_path / "b")
    policy = GatedPolicy(failing_once=["p2"], failing=["p4"])
    async with coordinator(policy) as address:
        assert (await run(workspace, "rollout", {}, "--search", address))[0] == 0
        found = records(workspace)
        assert not found["p2"].error
        assert "the model is broken" in found["p4"].error
        workspace.store.delete(f"{workspace.ref().prefix}/manifest.json")
        policy.failing.clear()
        policy.asked.clear()
        code, result = await run(workspace, "rollout", {}, "--search", address)
        assert (code, result["metrics"]["failed"], policy.asked) == (0, 0, {"p4"})
        assert json.loads(workspace.progress.read_text())["solved"] == result["metrics"]["solved"]
        await run(whole, "rollout", {}, "--search", address)
    assert records(workspace) == records(whole)


async def test_unsolved_problems_are_searched_again_with_more_rollouts_and_another_seed(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, rollout={"search": {**SEARCH, "extraRollouts": [5, 6]}, "shardSize": 2})
    rows = [{"id": "easy", "question": "?", "answer": "18"}, {"id": "never", "question": "?", "answer": "99"}]
    workspace.problems.write_text("\n".join(map(json.dumps, rows)))
    async with coordinator() as address:
        assert (await run(workspace, "rollout", {}, "--search", address))[0] == 0
    found = records(workspace)
    assert found["never"].usage.rollouts == 8 + 5 + 6
    assert {node.tree for node in found["never"].nodes} == {0, 1, 2}
    roots = [i for i, node in enumerate(found["never"].nodes) if node.parent == -1]
    assert len(roots) == 3
    assert all(node.parent < i for i, node in enumerate(found["never"].nodes))


async def test_problems_of_several_data_sets_are_searched_and_left_out_rows_are_counted(tmp_path: Path) -> None:
    sets = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": 1, "question": "?", "answer": "18"}\nnonsense\n')
        sets.append({"uri": str(tmp_path / f"{name}.jsonl")})
    workspace = new_workspace(tmp_path)
    sets.append({"uri": str(workspace.problems), "limit": 1})
    workspace.document["spec"]["problems"] = {"sets": sets, "onBadRow": "skip"}
    async with coordinator() as address:
        code, result = await run(workspace, "rollout", {}, "--search", address)
    assert code == 0
    assert result["metrics"]["bad_rows"] == 2
    assert sorted(records(workspace)) == ["a/1", "b/1", "problems/p0"]


async def test_work_that_the_search_refuses_is_bad_input(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, verifier="exakt")
    async with coordinator() as address:
        code, result = await run(workspace, "rollout", {}, "--search", address)
    assert code == 2
    assert "exakt" in result["error"]


@pytest.mark.parametrize(
    ("changes", "lines", "complaint"),
    [
        ({}, None, "give --search HOST:PORT"),
        ({}, '{"question": "q", "answer": "1"}\n{oops', "problems.jsonl:2"),
        ({"rollout": {"search": {"method": "beam"}}}, None, "beam ranks steps by the PPM"),
        ({"round": 2, "previousRound": "r0"}, None, "the input policy is missing"),
    ],
)
async def test_bad_input_is_refused_before_any_work(
    tmp_path: Path, changes: dict[str, Any], lines: str | None, complaint: str
) -> None:
    workspace = new_workspace(tmp_path, **changes)
    if lines is not None:
        workspace.problems.write_text(lines)
    code, result = await run(workspace, "rollout", {})
    assert (code, result["exit_code"]) == (2, 2)
    assert complaint in result["error"]
    assert list(workspace.store.list("")) == []


async def test_select_turns_trees_into_sft_examples_pairs_and_difficulties(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, problems=12, select={"heldOutFraction": 0.5})
    async with coordinator() as address:
        await run(workspace, "rollout", {}, "--search", address)
    rollout, found = workspace.ref(), records(workspace)
    code, result = await run(workspace, "select", {"rollout": rollout})
    assert code == 0
    prefix = workspace.store.path(workspace.ref().prefix)
    sft = read_sft(prefix / "sft" / "00000.parquet")
    train, held_out = (read_pairs(prefix / "pairs" / "00000.parquet", split) for split in ("train", "held_out"))
    levels = pq.read_table(prefix / "difficulty").to_pylist()
    metrics = result["metrics"]
    assert metrics["sft_examples"] == len(sft) > 0
    measuring = {group.problem_id for group in held_out}
    solved = {name for name, record in found.items() if record.solved}
    assert {example.problem_id for example in sft} == solved - measuring
    assert metrics["sft_problems_held_out"] == len(measuring)
    counted = tuple(sum(len(group.pairs) for group in groups) for groups in (train, held_out))
    assert (metrics["pairs_train"], metrics["pairs_held_out"]) == counted
    assert train
    assert held_out
    assert not {group.problem_id for group in train} & measuring
    assert metrics["easy"] + metrics["medium"] + metrics["hard"] == len(levels) == 12
    workspace.store.write(f"{rollout.prefix}/trees/00000.parquet", b"changed")
    workspace.document["spec"]["seed"] = 4
    code, result = await run(workspace, "select", {"rollout": rollout})
    assert code == 2
    assert "does not match its manifest" in result["error"]


async def test_methods_are_compared_on_held_out_problems_without_a_verifier_in_the_search(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, problems=5)
    workspace.document["spec"]["evaluate"] = {
        "problems": {"uri": str(workspace.problems)},
        "methods": [{"name": "greedy", "method": "greedy"}, {"name": "maj@4", "method": "majority", "rollouts": 4}],
        "concurrency": 2,
    }
    policy = workspace.trained("train-policy")
    async with coordinator() as address:
        code, result = await run(workspace, "evaluate", {"policy": policy}, "--search", address)
    assert code == 0
    methods = {method["name"]: method for method in result["metrics"]["methods"]}
    assert list(methods) == ["greedy", "maj@4"]
    rows = pq.read_table(workspace.store.path(f"{workspace.ref().prefix}/results.parquet")).to_pylist()
    assert len(rows) == 10
    progress = json.loads(workspace.progress.read_text())
    assert (progress["done"], progress["total"]) == (10, 10)
    assert progress["correct"] == sum(row["correct"] for row in rows)
    assert "solved" not in progress
    for name, line in methods.items():
        some = [row for row in rows if row["method"] == name]
        assert line["accuracy"] == pytest.approx(sum(row["correct"] for row in some) / 5)
        assert line["low"] <= line["accuracy"] <= line["high"]
        assert line["tokens"] == pytest.approx(sum(row["tokens"] for row in some) / 5)
    workspace.document["spec"]["evaluate"]["methods"][0]["guidance"] = "ppm"
    code, result = await run(workspace, "evaluate", {"policy": policy}, "--search", address)
    assert code == 2
    assert "evaluate.methods greedy: guidance is ppm, but there is no input ppm" in result["error"]


async def test_in_a_round_without_a_ppm_the_methods_that_need_it_are_skipped_and_reported(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path, problems=3)
    workspace.document["spec"]["evaluate"] = {
        "problems": {"uri": str(workspace.problems)},
        "methods": [
            {"name": "best", "method": "best_of_n", "guidance": "ppm"},
            {"name": "greedy", "method": "greedy"},
        ],
    }
    reason = "there is no preference pair, so no PPM was trained"
    inputs = {"policy": workspace.trained("train-policy"), "ppm": workspace.trained("train-ppm", skipped=reason)}
    async with coordinator() as address:
        code, result = await run(workspace, "evaluate", inputs, "--search", address)
    assert code == 0
    assert [method["name"] for method in result["metrics"]["methods"]] == ["greedy"]
    assert result["metrics"]["skipped"] == f"best: guided by a PPM, but {reason}"
    workspace.document["spec"]["evaluate"]["methods"].pop()
    code, result = await run(workspace, "evaluate", inputs)
    assert (code, result["metrics"]) == (0, {"skipped": f"best: guided by a PPM, but {reason}"})


async def test_an_evaluation_without_problems_has_no_metrics(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    code, result = await run(workspace, "evaluate", {"policy": workspace.trained("train-policy")})
    assert (code, result["metrics"]) == (0, {})


@pytest.mark.parametrize("number", [1, 2])
async def test_the_lineage_of_a_rollout_names_the_policy_that_searched_and_no_address(
    tmp_path: Path, number: int
) -> None:
    policy = {"endpoint": "http://gpu-box:8000/v1", "name": "org/large", "apiKeyEnv": "LLM_KEY"}
    few_shot = tmp_path / "few.txt"
    few_shot.write_text("Q: {question}\n")
    rollout = {"search": SEARCH, "policy": policy, "promptFile": str(few_shot)}
    chain = {"round": number, **({"previousRound": "r0"} if number > 1 else {})}
    async with coordinator() as address:
        workspace = new_workspace(tmp_path / "a", problems=1, rollout=rollout, **chain)
        code, result = await run(workspace, "rollout", {}, "--search", address)
    assert code == 0, result
    manifest = workspace.store.read(workspace.ref().key).decode()
    sources = json.loads(manifest)["sources"]
    assert sources["rollout_policy"] == "endpoint:org/large"
    assert sources["prompt_file"] == file_digest(few_shot)
    assert set(sources) == {"problems", "prompt_file", "rollout_policy"}
    assert "gpu-box" not in manifest
    assert "LLM_KEY" not in manifest


async def test_a_given_reward_model_guides_both_searches_and_stands_in_the_lineage(tmp_path: Path) -> None:
    prm = tmp_path / "prm"
    prm.mkdir()
    (prm / "config.json").write_text("{}")
    given = {"model": {"uri": str(prm), "convention": "qwen-prm"}}
    async with coordinator(ppm=ClosenessModel(12)) as address:
        workspace = new_workspace(tmp_path / "a", problems=1, preferenceModel=given)
        code, result = await run(workspace, "rollout", {}, "--search", address)
        assert code == 0, result
        sources = json.loads(workspace.store.read(workspace.ref().key))["sources"]
        assert sources["preference_model"] == f"qwen-prm:{checkpoint_digest(prm)}"
        assert any(node.score is not None for record in records(workspace).values() for node in record.nodes)
        workspace.document["spec"]["evaluate"] = {
            "problems": {"uri": str(workspace.problems)},
            "overlap": "allow",
            "methods": [{"name": "best", "method": "best_of_n", "guidance": "ppm"}],
        }
        reason = "preferenceModel.model is given, so no PPM was trained"
        inputs = {"policy": workspace.trained("train-policy"), "ppm": workspace.trained("train-ppm", skipped=reason)}
        code, result = await run(workspace, "evaluate", inputs, "--search", address)
    assert code == 0, result
    assert [method["name"] for method in result["metrics"]["methods"]] == ["best"]
    assert "skipped" not in result["metrics"]
    assert "preference_model" in json.loads(workspace.store.read(workspace.ref().key))["sources"]

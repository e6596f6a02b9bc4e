"""A round reads its base model and its problems from the hub at the commits that its first stage found."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstar.rounds.manifest import Manifest, read_manifest
from tests.support.fake_hub import FakeHub, running_hub, use_hub
from tests.support.jobs.coordinator import coordinator
from tests.support.jobs.stage_workspace import StageWorkspace, examples, make_base

MODEL, SET = "hf:org/base", "hf:org/set"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a tiny model and two problems."""
    make_base(tmp_path / "base")
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "hub-cache", monkeypatch)
        hub.push_folder("models", "org/base", tmp_path / "base")
        hub.push("datasets", "org/set", problems(0))
        yield hub


def problems(first: int) -> dict[str, bytes]:
    rows = [{"question": f"which digits add up to {i}?", "answer": str(i)} for i in (first + 12, first + 13)]
    return {"train.jsonl": "\n".join(map(json.dumps, rows)).encode()}


def new_workspace(folder: Path) -> StageWorkspace:
    rollout = {"search": {"rollouts": 2, "candidates": 2}}
    training = {"epochs": 1, "batchSize": 8}
    return StageWorkspace(folder, baseModel=MODEL, problems={"uri": SET}, rollout=rollout, trainPolicy=training)


def manifest(workspace: StageWorkspace) -> Manifest:
    key = workspace.ref().key
    return read_manifest(workspace.store.read(key), key)


@pytest.mark.slow
async def test_all_stages_use_the_commits_of_the_rounds_start(hub: FakeHub, tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    model, data_set = hub.branches["models", "org/base", "main"], hub.branches["datasets", "org/set", "main"]
    async with coordinator() as address:
        command = [sys.executable, "-m", "rstar_jobs.rollout", *workspace.arguments({}, "--search", address)]
        process = await asyncio.create_subprocess_exec(*command)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    rollout = manifest(workspace)
    assert rollout.sources["base_model"] == f"{MODEL}@{model}"
    assert rollout.sources[SET] == data_set
    assert rollout.metrics["hub_commits"] == {MODEL: model, SET: data_set}

    hub.push("models", "org/base", {"config.json": b"{}"})
    hub.push("datasets", "org/set", problems(5))
    select = workspace.selected(examples(8), [])
    ended = workspace.process("train_policy", {"select": select})
    assert ended.returncode == 0, ended.stderr
    assert manifest(workspace).sources["base_model"] == f"{MODEL}@{model}"


def test_a_stage_refuses_a_base_model_that_is_neither_cached_nor_reachable(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(hub.url, tmp_path / "empty", monkeypatch, offline=True)
    workspace = new_workspace(tmp_path)
    ended = workspace.process("train_policy", {"select": workspace.selected(examples(8), [])})
    assert ended.returncode == 2
    assert f"the model {MODEL}@main is not (completely) in the hub's local cache" in workspace.outcome()["error"]

"""The file ``run.json`` of a stage: times of all its attempts."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rstar_jobs import run_times, select
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation
from rstar_jobs.program import run
from rstar_jobs.progress import Progress
from rstar_jobs.run_times import RunTimes
from structlog.testing import capture_logs

from rstar.rounds.observed import Stage
from rstar.rounds.stage import StageRun
from rstar.store.digests import RUN_TIMES
from rstar.store.folder_store import FolderStore
from rstar.store.store import StoreError
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.local.bench import eventually


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def stage_in(folder: Path) -> StageRun:
    return StageRun(FolderStore(folder), "r1", Stage.ROLLOUT, 3, {})


def times_of(stage: StageRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stage.store.read(stage.key(RUN_TIMES)))
    return found


def attempt(stage: StageRun, *, finished: bool = False) -> dict[str, Any]:
    times = RunTimes(Progress(None, stage.stage), writes=True)
    times.begin(stage)
    times.end(finished=finished)
    return times_of(stage)


def test_the_seconds_of_all_attempts_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "seconds", lambda _: 5.0)
    stage = stage_in(tmp_path)
    first = attempt(stage)
    last = attempt(stage, finished=True)
    assert (first["attempts"], last["attempts"]) == (1, 2)
    assert "finished" not in first
    assert last["finished"] == last["updated"] > first["updated"]
    assert last["started"] == first["started"]
    assert (first["seconds"], last["seconds"]) == (5.0, 10.0)


def test_an_attempt_that_runs_stores_its_seconds_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_times, "PERIOD_SECONDS", 0.01)
    stage = stage_in(tmp_path)
    times = RunTimes(Progress(None, stage.stage), writes=True)
    times.begin(stage)
    eventually(lambda: stage.store.exists(stage.key(RUN_TIMES)))
    before = times_of(stage)["seconds"]
    eventually(lambda: times_of(stage)["seconds"] > before)
    times.end(finished=False)
    assert "finished" not in times_of(stage)


def test_a_stage_that_is_done_counts_no_further_attempt(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.finish([], {})
    done = b'{"seconds":9.0}'
    stage.store.write(stage.key(RUN_TIMES), done)
    times = RunTimes(Progress(None, stage.stage), writes=True)
    times.begin(stage)
    times.end(finished=True)
    assert stage.store.read(stage.key(RUN_TIMES)) == done


@pytest.mark.parametrize("damaged", [b"{", b"[]", b'{"seconds":"9"}', b'{"attempts":null}', b"\xff"])
def test_a_damaged_file_is_begun_anew(damaged: bytes, tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.store.write(stage.key(RUN_TIMES), damaged)
    assert attempt(stage)["attempts"] == 1


class FullStore(FolderStore):
    def write(self, key: str, data: bytes) -> None:
        raise StoreError("no space left")


def test_a_store_that_takes_no_times_ends_nothing(tmp_path: Path) -> None:
    times = RunTimes(Progress(None, "rollout"), writes=True)
    with capture_logs() as logs:
        times.begin(StageRun(FullStore(tmp_path), "r1", Stage.ROLLOUT, 3, {}))
        times.end(finished=True)
    assert [log["event"] for log in logs] == ["times not stored"]


def test_processes_that_are_not_the_leader_write_no_times(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    times = RunTimes(Progress(None, stage.stage), writes=False)
    times.begin(stage)
    times.end(finished=True)
    assert not stage.store.exists(stage.key(RUN_TIMES))


def test_an_attempt_with_bad_input_leaves_nothing(tmp_path: Path) -> None:
    workspace = StageWorkspace(tmp_path)
    arguments = workspace.arguments({"rollout": workspace.rolled_out()})
    before = list(workspace.store.list(""))

    def refused(invocation: Invocation) -> None:
        invocation.open_stage(["rollout"])
        raise BadInputError("a fault")

    assert run(Stage.SELECT, refused, arguments) == 2
    assert list(workspace.store.list("")) == before


def test_an_attempt_that_broke_is_counted_by_the_program(tmp_path: Path) -> None:
    workspace = StageWorkspace(tmp_path)
    arguments = workspace.arguments({"rollout": workspace.rolled_out()})

    def broken(invocation: Invocation) -> None:
        invocation.open_stage(["rollout"])
        raise ValueError("a fault")

    assert run(Stage.SELECT, broken, arguments) == 1
    assert run(Stage.SELECT, select.work, arguments) == 0
    prefix = workspace.ref().prefix
    times = json.loads(workspace.store.read(f"{prefix}/{RUN_TIMES}"))
    assert times["attempts"] == 2
    assert times["finished"] >= times["started"]
    assert times["last_progress"]["done"] == 1

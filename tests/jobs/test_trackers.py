"""Trackers get the figures of the stages: TensorBoard, MLflow and wandb for real, without a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rstar_jobs import trackers
from rstar_jobs.progress import Progress, SearchProgress
from rstar_jobs.trackers import Figures, TensorBoardFiles, Tracker, Trackers, open_trackers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rstar.record import SearchRecord, Usage
from rstar.rounds.tracking import result_figures, run_id, tensorboard_folder, tracker_faults
from rstar.store.folder_store import FolderStore
from tests.support.jobs.stage_workspace import FAST, StageWorkspace, examples, make_base


class Kept:
    """A tracker that keeps what it gets."""

    def __init__(self) -> None:
        self.figures: list[Figures] = []
        self.closed = False

    def log(self, figures: Figures) -> None:
        self.figures.append(figures)

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    def log(self, figures: Figures) -> None:
        raise ConnectionError("the server is down")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    from structlog.testing import capture_logs

    with capture_logs() as found:
        yield found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        events = EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["tensors"]:
            for event in events.Tensors(tag):
                value = event.tensor_proto.float_val or memoryview(event.tensor_proto.tensor_content).cast("f")
                found.setdefault(tag, []).append((event.step, float(value[0])))
    return found


@pytest.mark.slow
def test_a_killed_training_continues_its_run_in_every_tracker(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    workspace = StageWorkspace(
        tmp_path,
        baseModel=str(tmp_path / "base"),
        trackers=["tensorboard", "mlflow", "wandb"],
        trainPolicy={"epochs": 40, "batchSize": 8, "learningRate": 1e-3, "saveSteps": 5},
    )
    select = workspace.selected(examples(20), [])
    uri = f"file://{tmp_path}/mlruns"
    offline = {"MLFLOW_TRACKING_URI": uri, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "rstar_jobs.train_policy", *workspace.arguments({"select": select})]
    with subprocess.Popen(command, env={**os.environ, **FAST, **offline}, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not any(
            key.endswith("resume/latest.json") for key in workspace.store.list("rounds/r1/train-policy/")
        ):
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    done = workspace.process("train_policy", {"select": select}, **offline)
    assert done.returncode == 0, done.stderr
    assert "training resumes" in done.stderr
    assert "tracker failed" not in done.stderr

    found = scalars(workspace.store.path(tensorboard_folder("r1")))
    steps = {step for step, _ in found["train-policy/loss"]}
    assert max(steps) == 100
    for name in ("learning_rate", "grad_norm", "tokens_per_second"):
        assert {step for step, _ in found[f"train-policy/{name}"]} >= {max(steps)}, name
    result = workspace.outcome()["metrics"]
    assert found["result/train-policy/loss"] == [(1, pytest.approx(result["loss"]))]

    program = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("rstar").experiment_id])
print(json.dumps([[run.info.run_name, run.info.status, run.data.metrics] for run in runs]))
"""
    environment = {**os.environ, **offline, "MLFLOW_ALLOW_FILE_STORE": "true"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    [[name, status, metrics]] = json.loads(printed.stdout)
    assert (name, status) == ("r1", "FINISHED")
    assert metrics["result/train-policy/loss"] == result["loss"]
    assert metrics["train-policy/learning_rate"] >= 0

    assert list(tmp_path.glob(f"wandb/offline-run-*-{run_id(workspace.store.uri, 'r1')}/*.wandb"))


def test_a_training_stage_logs_its_steps_and_its_result(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    training = {"epochs": 2, "batchSize": 8, "learningRate": 1e-3}
    workspace = StageWorkspace(
        tmp_path, baseModel=str(tmp_path / "base"), trackers=["tensorboard"], trainPolicy=training
    )
    code, result = workspace.run("train_policy", {"select": workspace.selected(examples(20), [])})
    assert code == 0
    found = scalars(workspace.store.path(tensorboard_folder("r1")))
    for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
        assert [step for step, _ in found[f"train-policy/{name}"]] == [1, 2, 3, 4, 5], name
    assert found["result/train-policy/loss"] == [(1, pytest.approx(result["metrics"]["loss"]))]
    assert found["result/train-policy/steps"] == [(1, 5.0)]


def test_a_tracker_that_is_not_installed_is_refused_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden").mkdir()
    # A module that names no package: find_spec finds none either.
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *a: None if name == 'wandb' else find(name, *a)\n"
    )
    workspace = StageWorkspace(tmp_path, trackers=["wandb"])
    select = workspace.selected(examples(2), [])
    paths = os.pathsep.join(filter(None, [str(tmp_path / "hidden"), os.environ.get("PYTHONPATH")]))
    done = workspace.process("train_policy", {"select": select}, PYTHONPATH=paths)
    assert done.returncode == 2
    sentence = "trackers: wandb is not installed: install rstar-math[wandb], or remove it from trackers"
    assert workspace.outcome() == {"error": sentence, "exit_code": 2}
    assert done.stderr.splitlines()[-1] == f"error: {sentence}"


def test_mlflow_needs_its_address() -> None:
    assert list(tracker_faults(["mlflow"], {})) == [
        "trackers: mlflow needs MLFLOW_TRACKING_URI, such as http://mlflow:5000 or file:///data/mlruns"
    ]
    assert list(tracker_faults(["mlflow", "tensorboard"], {"MLFLOW_TRACKING_URI": "http://mlflow:5000"})) == []


def test_a_tracker_that_is_down_gives_one_warning_and_the_others_go_on(warnings: list[dict[str, Any]]) -> None:
    kept = Kept()
    both = Trackers({"mlflow": Broken, "tensorboard": lambda: kept})
    for step in range(5):
        both.log({"loss": 1.0 / (1 + step), "bad": float("nan")}, step)
    both.close()
    assert [(f.step, dict(f.values)) for f in kept.figures] == [(step, {"loss": 1.0 / (1 + step)}) for step in range(5)]
    assert kept.closed
    [warning] = warnings
    assert (warning["tracker"], warning["reason"]) == ("mlflow", "the server is down")


def test_a_tracker_that_cannot_be_opened_gives_one_warning(warnings: list[dict[str, Any]]) -> None:
    def fail() -> Tracker:
        raise KeyboardInterrupt

    trackers_ = Trackers({"wandb": fail})
    trackers_.close()
    assert [warning["reason"] for warning in warnings] == ["KeyboardInterrupt"]


def test_a_tracker_that_hangs_does_not_hold_the_stage(
    monkeypatch: pytest.MonkeyPatch, warnings: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(trackers, "_QUEUED", 4)
    hang = threading.Event()

    class Hanging(Kept):
        def log(self, figures: Figures) -> None:
            hang.wait(60)

    slow = Trackers({"mlflow": Hanging})
    for step in range(100):
        slow.log({"loss": 1.0}, step)
    slow.close()
    hang.set()
    assert [warning["reason"] for warning in warnings] == ["it is too slow"]


def test_event_files_are_copied_to_a_store_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote:
        """A store that is not a folder."""

        def __init__(self) -> None:
            self.folder = FolderStore(tmp_path / "bucket")
            self.uri = "s3://lab/tiny"

        def upload(self, key: str, path: Path, digest: str) -> None:
            self.folder.upload(key, path, digest)

    monkeypatch.setattr(trackers, "UPLOAD_SECONDS", 0.0)
    remote: Any = Remote()
    files = TensorBoardFiles(remote, "rounds/r1/tensorboard")
    files.log(Figures({"rollout/tokens": 5.0}, 1, time.time()))
    folder = tmp_path / "bucket" / "rounds" / "r1" / "tensorboard"
    assert scalars(folder) == {"rollout/tokens": [(1, 5.0)]}
    files.log(Figures({"rollout/tokens": 7.0}, 2, time.time()))
    files.close()
    assert scalars(folder) == {"rollout/tokens": [(1, 5.0), (2, 7.0)]}


def test_a_search_stage_logs_what_is_solved_and_spent(tmp_path: Path) -> None:
    kept = Kept()
    progress = Progress(None, "rollout")
    progress.trackers = Trackers({"kept": lambda: kept})
    counts = SearchProgress(progress, total=4, done=1, successes=1, key="solved")
    counts.finished("0", SearchRecord("p1", (), usage=Usage(tokens=30, nodes=3)), success=False)
    counts.report()
    counts.report()  # within TRACKED_SECONDS
    counts.finished("0", SearchRecord("p2", (), usage=Usage(tokens=10, nodes=1)), success=True)
    counts.report(last=True)
    progress.close()
    assert [figures.step for figures in kept.figures] == [2, 3]
    last: Mapping[str, float] = kept.figures[-1].values
    assert last["rollout/solved"] == 2
    assert last["rollout/tokens"] == 40
    assert last["rollout/solved_share"] == pytest.approx(2 / 3)
    assert "rollout/eta_seconds" not in last


def test_results_of_rollout_and_evaluation_are_figures_by_name() -> None:
    rollout = {"coverage": 0.5, "solved": 2, "failed_steps": {"timeout": 3}, "hub_commits": {"hf:a/b": "c0ffee"}}
    assert result_figures("rollout", rollout) == {
        "result/rollout/coverage": 0.5,
        "result/rollout/solved": 2.0,
        "result/rollout/failed_steps/timeout": 3.0,
    }
    methods = [{"name": "pass@8", "accuracy": 0.25, "paired": None}, {"name": "greedy", "accuracy": 0.5, "ok": True}]
    assert result_figures("evaluate", {"methods": methods, "skipped": "no PPM"}) == {
        "result/evaluate/methods/pass@8/accuracy": 0.25,
        "result/evaluate/methods/greedy/accuracy": 0.5,
    }


def test_all_stages_of_a_round_share_a_run_and_rounds_do_not() -> None:
    assert run_id("s3://lab", "r1") == run_id("s3://lab", "r1")
    assert len({run_id("s3://lab", "r1"), run_id("s3://lab", "r2"), run_id("s3://other", "r1")}) == 3


def test_without_trackers_none_is_opened(tmp_path: Path) -> None:
    opened: Callable[[], None] = open_trackers([], FolderStore(tmp_path), "r1").close
    opened()
    assert not (tmp_path / "rounds").exists()

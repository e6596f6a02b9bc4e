"""The laptop driver with real processes: order, retries, death, resumption, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rstar.local.children import Identity
from tests.support.local.commands import PROGRAMS
from tests.support.paths import ROOT

ORDER = ["rollout", "select", "train-policy", "train-ppm", "evaluate"]


class Bench:
    """A store, a control folder, and a file of rounds r1, r2, ..."""

    def __init__(self, folder: Path) -> None:
        self.store, self.control, self.file = folder / "store", folder / "control", folder / "rounds.yaml"
        self.control.mkdir()
        (folder / "base").mkdir()
        (folder / "base" / "config.json").write_text("{}")
        self.problems = folder / "problems.jsonl"
        self.problems.write_text('{"question": "1+1?", "answer": "2"}\n')
        self.base = folder / "base"

    def rounds(self, count: int = 1, *, evaluates: bool = False, **lifecycle: int) -> None:
        documents = []
        for number in range(1, count + 1):
            spec: dict[str, Any] = {
                "round": number,
                "baseModel": str(self.base),
                "problems": {"uri": str(self.problems)},
                "lifecycle": {"backoffSeconds": 0, **lifecycle},
            }
            if evaluates:
                methods = [{"name": "greedy", "method": "greedy"}]
                spec["evaluate"] = {"problems": {"uri": str(self.problems)}, "methods": methods}
            if number > 1:
                spec["previousRound"] = f"r{number - 1}"
            kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
            documents.append({**kind, "metadata": {"name": f"r{number}"}, "spec": spec})
        self.file.write_text(yaml.safe_dump_all(documents))

    def order(self, stage: str, *orders: str) -> None:
        (self.control / stage).write_text("\n".join(orders))

    def driver(self) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(PROGRAMS),
            "drive",
            str(self.file),
            str(self.store),
            "--control",
            str(self.control),
        ]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def run(self) -> dict[str, Any]:
        out, err = self.driver().communicate(timeout=60)
        assert out, err
        result: dict[str, Any] = json.loads(out)
        return result

    def lines(self, name: str) -> list[list[str]]:
        path = self.control / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def started(self) -> list[tuple[str, str]]:
        return [(line[0], line[1]) for line in self.lines("started")]

    def pids(self) -> list[int]:
        return [int(line[2]) for line in self.lines("started")] + [int(line[1]) for line in self.lines("services")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def test_two_rounds_run_in_order_and_services_live_only_for_search(bench: Bench) -> None:
    bench.rounds(2, evaluates=True)
    result = bench.run()
    assert {name: phase for name, (phase, _) in result["phases"].items()} == {"r1": "Succeeded", "r2": "Succeeded"}
    assert bench.started() == [(name, stage) for name in ("r1", "r2") for stage in ORDER]
    kinds = [line[0] for line in bench.lines("services")]
    # Round 1: rollout, evaluate. Round 2's rollout keeps the evaluated policy and executor, without the PPM.
    assert kinds.count("policy") == 3
    assert kinds.count("executor") == 3
    assert kinds.count("ppm") == 2
    assert kinds.count("search") == 4
    assert not any(Identity.of(pid) for pid in bench.pids())


def test_what_is_done_is_not_done_again(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert len(bench.started()) == len(ORDER)


def test_a_stage_whose_manifest_is_gone_runs_again_and_so_does_what_read_it(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    next(bench.store.glob("rounds/r1/train-policy/*/manifest.json")).unlink()
    bench.run()
    again = [stage for _, stage in bench.started()[len(ORDER) :]]
    assert again[0] == "train-policy"
    assert "rollout" not in again


def test_a_failing_stage_is_tried_again_then_fails_the_round_with_its_last_words(bench: Bench) -> None:
    bench.rounds(2, maxAttempts=2)
    bench.order("select", "fail", "fail")
    result = bench.run()
    phase, message = result["phases"]["r1"]
    assert phase == "Failed"
    assert message == "stage select failed 2 times: RuntimeError: the disk is on fire"
    assert "r2" not in result["phases"]
    assert "the disk is on fire" in Path(result["log"]).read_text()
    assert [stage for _, stage in bench.started()] == ["rollout", "select", "select"]


def test_a_new_run_forgives_failures(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=1)
    bench.order("select", "fail")
    assert bench.run()["phases"]["r1"][0] == "Failed"
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert [stage for _, stage in bench.started()] == ["rollout", "select", *ORDER[1:]]


def test_bad_input_is_never_tried_again(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "refuse")
    phase, message = bench.run()["phases"]["r1"]
    assert phase == "Failed"
    assert message == "stage rollout refuses its input: problems.jsonl:3: no question"
    assert len(bench.started()) == 1


def test_success_without_a_manifest_is_a_failure(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=1)
    bench.order("select", "hollow")
    phase, message = bench.run()["phases"]["r1"]
    assert phase == "Failed"
    assert "no manifest" in message


def test_a_stage_past_its_deadline_is_ended_and_tried_again(bench: Bench) -> None:
    bench.rounds(1, deadlineSeconds=2)
    bench.order("select", "hang")
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert [stage for _, stage in bench.started()].count("select") == 2


def test_a_service_that_keeps_crashing_fails_the_round(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=2)
    (bench.control / "service-executor").write_text("crash")
    phase, message = bench.run()["phases"]["r1"]
    assert phase == "Failed"
    assert "the executor service failed 2 times" in message
    assert "no memory left" in message
    assert bench.started() == []


def test_a_killed_driver_takes_its_children_along_and_the_next_one_goes_on(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("train-policy", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "train-policy") in bench.started())
    driver.kill()
    driver.communicate()
    eventually(lambda: not any(Identity.of(pid) for pid in bench.pids()))
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert [stage for _, stage in bench.started()] == ["rollout", "select", "train-policy", *ORDER[2:]]


def test_a_driver_killed_while_services_run_leaves_none_behind(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    driver.kill()
    driver.communicate()
    eventually(lambda: not any(Identity.of(pid) for pid in bench.pids()))


def test_a_signal_suspends_the_round_and_the_next_run_goes_on(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "hang", "hang")
    for count, number in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        driver = bench.driver()
        eventually(lambda count=count: len(bench.started()) == count)  # type: ignore[misc]
        driver.send_signal(number)
        out, err = driver.communicate(timeout=30)
        assert json.loads(out)["signal"] == number, err
        assert json.loads(out)["phases"]["r1"][0] == "Suspended"
        assert not any(Identity.of(pid) for pid in bench.pids())
    assert bench.run()["phases"]["r1"][0] == "Succeeded"


def test_a_second_driver_in_the_same_store_is_refused_by_name(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "hang")
    first = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    _, err = bench.driver().communicate(timeout=30)
    assert f"pid {first.pid}" in err
    first.terminate()
    first.communicate(timeout=30)


def test_another_spec_runs_the_stages_again(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    bench.file.write_text(bench.file.read_text().replace("round: 1", "round: 1\n  seed: 7"))
    bench.run()
    assert len(bench.started()) == 2 * len(ORDER)

"""Requests to suspend, resume and cancel a round, with and without a running driver."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rstar.local.control import Control, RequestedChanges
from rstar.local.work import round_names, round_status
from tests.support.local.bench import Bench, eventually


def request(bench: Bench, name: str = "r1", *, suspend: bool = False, cancel: bool = False) -> None:
    Control(bench.store / ".rstar" / name).write(RequestedChanges(suspend, cancel))


def phase(bench: Bench, name: str = "r1") -> str:
    status = round_status(bench.store / ".rstar", name)
    return status.phase if status is not None else ""


def test_a_request_is_read_back_and_an_empty_one_leaves_no_file(tmp_path: Path) -> None:
    reader, writer = Control(tmp_path / "r1"), Control(tmp_path / "r1")
    assert reader.read() == RequestedChanges()
    for suspend, cancel in ((True, False), (True, True), (False, True), (False, False)):
        writer.write(RequestedChanges(suspend, cancel))
        assert reader.read() == RequestedChanges(suspend, cancel)
    assert list((tmp_path / "r1").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '"suspend"', '{"suspend": "yes"}', '{"unknown": true}'])
def test_a_broken_file_requests_nothing(tmp_path: Path, text: str) -> None:
    control = Control(tmp_path)
    control.path.write_text(text)
    assert control.read() == RequestedChanges()


def test_a_suspended_round_has_no_processes_and_its_driver_waits_until_it_is_resumed(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    request(bench, suspend=True)
    eventually(lambda: phase(bench) == "Suspended" and not bench.processes_run())
    assert driver.poll() is None
    request(bench)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r1"][0] == "Succeeded", err
    # A suspended attempt does not count as a failure.
    status = round_status(bench.store / ".rstar", "r1")
    assert status is not None
    assert [stage.attempts for stage in status.stages] == [0, 0, 0, 0, 0]
    assert [(a.stage, a.number, a.ending) for a in status.attempts][:2] == [
        ("rollout", 1, "suspended"),
        ("rollout", 2, None),
    ]


def test_a_signal_ends_a_driver_whose_round_is_suspended(bench: Bench) -> None:
    bench.rounds(1)
    request(bench, suspend=True)
    driver = bench.driver()
    eventually(lambda: phase(bench) == "Suspended")
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["signal"] == signal.SIGINT, err
    assert bench.started() == []


def test_a_cancelled_round_fails_for_good_and_later_rounds_do_not_start(bench: Bench) -> None:
    bench.rounds(2)
    bench.script("select", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "select") in bench.started())
    request(bench, cancel=True)
    out, err = driver.communicate(timeout=60)
    result = json.loads(out)
    assert result["phases"]["r1"][0] == "Failed", err
    assert "cancelled" in result["phases"]["r1"][1]
    assert "r2" not in result["phases"]
    assert not bench.processes_run()
    assert bench.run()["phases"]["r1"][0] == "Failed"
    assert [stage for _, stage in bench.started()] == ["rollout", "select"]


def test_a_suspended_round_can_be_cancelled(bench: Bench) -> None:
    bench.rounds(1)
    request(bench, suspend=True)
    driver = bench.driver()
    eventually(lambda: phase(bench) == "Suspended")
    request(bench, suspend=True, cancel=True)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r1"][0] == "Failed", err


def test_rounds_that_have_not_begun_are_listed_and_can_be_suspended(bench: Bench) -> None:
    bench.rounds(2)
    bench.script("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    assert round_names(bench.store / ".rstar") == ["r1", "r2"]
    assert phase(bench, "r2") == "Waiting"
    request(bench, "r2", suspend=True)
    request(bench, suspend=True)
    eventually(lambda: phase(bench) == "Suspended")
    request(bench)
    eventually(lambda: phase(bench, "r2") == "Suspended")
    assert {name for name, _ in bench.started()} == {"r1"}
    request(bench, "r2")
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r2"][0] == "Succeeded", err


def test_a_round_that_is_suspended_by_its_spec_ends_the_run(bench: Bench) -> None:
    bench.rounds(1)
    bench.file.write_text(bench.file.read_text().replace("round: 1", "round: 1\n  suspend: true"))
    assert bench.run()["phases"]["r1"][0] == "Suspended"

"""Suspending, resuming and cancelling under a driver that runs, and before one does."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rstar.local.children import Identity
from rstar.local.control import Control, Wish
from rstar.local.work import round_names, round_status
from tests.rstar.local.test_driver import Bench, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def wish(bench: Bench, name: str = "r1", **wishes: bool) -> None:
    Control(bench.store / ".rstar" / name).write(Wish(**wishes))


def phase(bench: Bench, name: str = "r1") -> str:
    status = round_status(bench.store / ".rstar", name)
    return status.phase if status is not None else ""


def test_a_wish_is_read_back_and_no_wish_leaves_no_file(tmp_path: Path) -> None:
    control, other = Control(tmp_path / "r1"), Control(tmp_path / "r1")
    assert control.read() == Wish()
    for wished in (Wish(suspend=True), Wish(suspend=True, cancel=True), Wish(cancel=True), Wish()):
        other.write(wished)
        assert control.read() == wished
    assert list((tmp_path / "r1").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '"suspend"', '{"suspend": "yes"}', '{"unknown": true}'])
def test_what_is_no_wish_is_none(tmp_path: Path, text: str) -> None:
    control = Control(tmp_path)
    control.path.write_text(text)
    assert control.read() == Wish()


def test_a_suspended_round_releases_everything_and_waits_until_it_is_resumed(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    wish(bench, suspend=True)
    eventually(lambda: phase(bench) == "Suspended" and not any(Identity.of(pid) for pid in bench.pids()))
    assert driver.poll() is None
    wish(bench)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r1"][0] == "Succeeded", err
    # An attempt whose compute was taken away does not count as a failure.
    status = round_status(bench.store / ".rstar", "r1")
    assert status is not None
    assert [stage.attempts for stage in status.stages] == [0, 0, 0, 0, 0]
    assert [(a.stage, a.number, a.ending) for a in status.attempts][:2] == [
        ("rollout", 1, "suspended"),
        ("rollout", 2, None),
    ]


def test_a_signal_ends_a_driver_whose_round_is_suspended(bench: Bench) -> None:
    bench.rounds(1)
    wish(bench, suspend=True)
    driver = bench.driver()
    eventually(lambda: phase(bench) == "Suspended")
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["signal"] == signal.SIGINT, err
    assert bench.started() == []


def test_a_cancelled_round_fails_for_good_and_takes_later_rounds_along(bench: Bench) -> None:
    bench.rounds(2)
    bench.order("select", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "select") in bench.started())
    wish(bench, cancel=True)
    out, err = driver.communicate(timeout=60)
    result = json.loads(out)
    assert result["phases"]["r1"][0] == "Failed", err
    assert "cancelled" in result["phases"]["r1"][1]
    assert "r2" not in result["phases"]
    assert not any(Identity.of(pid) for pid in bench.pids())
    assert bench.run()["phases"]["r1"][0] == "Failed"
    assert [stage for _, stage in bench.started()] == ["rollout", "select"]


def test_a_suspended_round_can_be_cancelled(bench: Bench) -> None:
    bench.rounds(1)
    wish(bench, suspend=True)
    driver = bench.driver()
    eventually(lambda: phase(bench) == "Suspended")
    wish(bench, suspend=True, cancel=True)
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r1"][0] == "Failed", err


def test_rounds_to_come_are_known_and_can_be_suspended_before_they_begin(bench: Bench) -> None:
    bench.rounds(2)
    bench.order("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    assert round_names(bench.store / ".rstar") == ["r1", "r2"]
    assert phase(bench, "r2") == "Waiting"
    wish(bench, "r2", suspend=True)
    wish(bench, suspend=True)
    eventually(lambda: phase(bench) == "Suspended")
    wish(bench)
    eventually(lambda: phase(bench, "r2") == "Suspended")
    assert {name for name, _ in bench.started()} == {"r1"}
    wish(bench, "r2")
    out, err = driver.communicate(timeout=60)
    assert json.loads(out)["phases"]["r2"][0] == "Succeeded", err


def test_a_round_whose_spec_says_suspend_ends_the_run_all_the_same(bench: Bench) -> None:
    bench.rounds(1)
    bench.file.write_text(bench.file.read_text().replace("round: 1", "round: 1\n  suspend: true"))
    assert bench.run()["phases"]["r1"][0] == "Suspended"

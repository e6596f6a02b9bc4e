"""The laptop driver with real processes: order, retries, deadlines, crashes, signals."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from rstar.local.journal import Journal
from tests.support.local.bench import Bench, eventually

ORDER = ["rollout", "select", "train-policy", "train-ppm", "evaluate"]


def test_two_rounds_run_in_order_and_services_run_only_while_a_stage_searches(bench: Bench) -> None:
    bench.rounds(2, evaluates=True)
    result = bench.run()
    assert {name: phase for name, (phase, _) in result["phases"].items()} == {"r1": "Succeeded", "r2": "Succeeded"}
    assert bench.started() == [(name, stage) for name in ("r1", "r2") for stage in ORDER]
    kinds = [record[0] for record in bench.records("services")]
    # Round 1: rollout, evaluate. Round 2's rollout keeps the evaluated policy and executor, without the PPM.
    assert kinds.count("policy") == 3
    assert kinds.count("executor") == 3
    assert kinds.count("ppm") == 2
    assert kinds.count("search") == 4
    assert not bench.processes_run()


def test_an_evolution_ends_after_a_round_that_brings_too_little_and_its_services_end(bench: Bench) -> None:
    bench.evolution(4, coverageGainBelow=0.01)
    for _ in range(2):
        result = bench.run()
        assert {name: phase for name, (phase, _) in result["phases"].items()} == {
            "e-r1": "Succeeded",
            "e-r2": "Succeeded",
        }
        assert bench.started() == [(name, stage) for name in ("e-r1", "e-r2") for stage in ORDER]
        assert not bench.processes_run()
    reason = "not made: the coverage rose by 0.0000, and stopWhen.coverageGainBelow is 0.01"
    for number in (3, 4):
        status = Journal(bench.store / ".rstar" / f"e-r{number}").status
        assert status is not None
        assert (status.phase, status.message) == ("Waiting", reason)


def test_an_evolution_without_rules_makes_all_its_rounds(bench: Bench) -> None:
    bench.evolution(3)
    assert list(bench.run()["phases"]) == ["e-r1", "e-r2", "e-r3"]


def test_a_second_run_of_a_complete_round_starts_nothing(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert len(bench.started()) == len(ORDER)


def test_a_stage_without_its_manifest_runs_again_and_the_stages_before_it_do_not(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    next(bench.store.glob("rounds/r1/train-policy/*/manifest.json")).unlink()
    bench.run()
    again = [stage for _, stage in bench.started()[len(ORDER) :]]
    assert again[0] == "train-policy"
    assert "rollout" not in again


def test_a_stage_that_keeps_failing_fails_the_round_with_the_error_from_its_log(bench: Bench) -> None:
    bench.rounds(2, maxAttempts=2)
    bench.script("select", "fail", "fail")
    result = bench.run()
    phase, message = result["phases"]["r1"]
    assert phase == "Failed"
    assert message == "stage select failed 2 times: RuntimeError: the disk is on fire"
    assert "r2" not in result["phases"]
    assert "the disk is on fire" in Path(result["log"]).read_text()
    assert [stage for _, stage in bench.started()] == ["rollout", "select", "select"]


def test_failures_of_an_earlier_run_do_not_count(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=1)
    bench.script("select", "fail")
    assert bench.run()["phases"]["r1"][0] == "Failed"
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert [stage for _, stage in bench.started()] == ["rollout", "select", *ORDER[1:]]


def test_a_stage_that_refuses_its_input_is_not_tried_again(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "refuse")
    phase, message = bench.run()["phases"]["r1"]
    assert phase == "Failed"
    assert message == "stage rollout refuses its input: problems.jsonl:3: no question"
    assert len(bench.started()) == 1


def test_exit_code_0_without_a_manifest_is_a_failure(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=1)
    bench.script("select", "no-manifest")
    phase, message = bench.run()["phases"]["r1"]
    assert phase == "Failed"
    assert "no manifest" in message


def test_a_stage_past_its_deadline_is_ended_and_tried_again(bench: Bench) -> None:
    bench.rounds(1, deadlineSeconds=2)
    bench.script("select", "hang")
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


def test_the_stage_of_a_killed_driver_ends_and_the_next_driver_continues(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("train-policy", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "train-policy") in bench.started())
    driver.kill()
    driver.communicate()
    eventually(lambda: not bench.processes_run())
    assert bench.run()["phases"]["r1"][0] == "Succeeded"
    assert [stage for _, stage in bench.started()] == ["rollout", "select", "train-policy", *ORDER[2:]]


def test_the_services_of_a_killed_driver_end(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    driver.kill()
    driver.communicate()
    eventually(lambda: not bench.processes_run())


def test_a_signal_suspends_the_round_and_the_next_run_continues_it(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang", "hang")
    for count, number in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        driver = bench.driver()
        eventually(lambda count=count: len(bench.started()) == count)  # type: ignore[misc]
        driver.send_signal(number)
        out, err = driver.communicate(timeout=30)
        assert json.loads(out)["signal"] == number, err
        assert json.loads(out)["phases"]["r1"][0] == "Suspended"
        assert not bench.processes_run()
    assert bench.run()["phases"]["r1"][0] == "Succeeded"


def test_a_driver_that_ignores_sigint_ends_by_sigterm(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # As a script starts its background jobs.
    try:
        driver = bench.driver()
    finally:
        signal.signal(signal.SIGINT, before)
    eventually(lambda: ("r1", "rollout") in bench.started())
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGTERM)
    out, err = driver.communicate(timeout=30)
    assert json.loads(out)["signal"] == signal.SIGTERM, err
    assert json.loads(out)["phases"]["r1"][0] == "Suspended"
    assert not bench.processes_run()


def test_a_second_driver_in_the_same_store_is_refused_with_the_pid_of_the_first(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang")
    first = bench.driver()
    eventually(lambda: ("r1", "rollout") in bench.started())
    _, err = bench.driver().communicate(timeout=30)
    assert f"pid {first.pid}" in err


def test_a_changed_spec_runs_all_stages_again(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    bench.file.write_text(bench.file.read_text().replace("round: 1", "round: 1\n  seed: 7"))
    bench.run()
    assert len(bench.started()) == 2 * len(ORDER)

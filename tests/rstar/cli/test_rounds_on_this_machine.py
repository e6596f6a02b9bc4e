"""submit, status, logs, suspend, resume and cancel on a store in a folder, with real driver processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from typer.testing import CliRunner

from rstar.cli.main import app
from rstar.local.control import Control, RequestedChanges
from rstar.local.lock import driver_pid
from tests.support.commands import PLAIN_TERMINAL, RSTAR, Finished, assert_refused, rstar
from tests.support.local.bench import Bench, eventually


def rstar_on(bench: Bench, *arguments: str) -> Finished:
    return rstar(*arguments, "--store", str(bench.store))


def start_rstar(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    return bench.start([*RSTAR, *arguments, "--store", str(bench.store)], PLAIN_TERMINAL)


def driver_in_stage(bench: Bench, stage: str, count: int = 1) -> subprocess.Popen[str]:
    """Start a driver and wait until it has started ``stage`` for the ``count``-th time."""
    driver = bench.driver()
    eventually(lambda: bench.started().count(("r1", stage)) == count)
    return driver


@pytest.mark.parametrize("command", ["submit", "logs", "suspend", "resume", "cancel"])
def test_the_help_of_every_command_has_examples_for_a_store_and_a_cluster(command: str) -> None:
    ended = rstar(command, "--help")
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert "For example:" in text
    assert "-n lab" in text


@pytest.mark.slow
def test_a_round_is_suspended_resumed_and_cancelled_under_a_running_driver(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang", "hang")
    driver = driver_in_stage(bench, "rollout")
    result = rstar_on(bench, "suspend", "r1")
    assert result.code == 0
    assert f"'rstar resume r1 --store {bench.store}' resumes it" in result.out
    eventually(lambda: "Suspended" in rstar_on(bench, "status", "r1").out)
    assert "round r1 is suspended; 'rstar resume r1" in rstar_on(bench, "status").out
    again = json.loads(rstar_on(bench, "suspend", "r1", "--json").out)
    assert again == {"round": "r1", "changed": False, "message": "round r1 is suspended already"}
    assert "round r1 is resumed" in rstar_on(bench, "resume", "r1").out
    eventually(lambda: len(bench.started()) == 2)
    assert "is not suspended" in rstar_on(bench, "resume", "r1").out
    assert_refused(rstar_on(bench, "cancel", "r1"), "--yes")
    assert json.loads(rstar_on(bench, "cancel", "r1", "--yes", "--json").out)["changed"] is True
    driver.communicate(timeout=60)
    status = json.loads(rstar_on(bench, "status", "r1", "--json").out)["statuses"]["r1"]
    assert status["phase"] == "Failed"
    assert next(c for c in status["conditions"] if c["type"] == "Failed")["reason"] == "Cancelled"
    assert "is cancelled already" in rstar_on(bench, "cancel", "r1", "--yes").out
    assert_refused(rstar_on(bench, "resume", "r1"), "round r1 was cancelled", "control.json")


def test_a_request_without_a_running_driver_applies_to_the_next_run(bench: Bench) -> None:
    bench.rounds(2)
    bench.script("rollout", "refuse")
    bench.run()
    result = rstar_on(bench, "suspend", "r2")
    assert "no driver is running" in result.out
    assert f"'rstar resume r2 --store {bench.store}'" in result.out
    assert "round r2 will be suspended" in rstar_on(bench, "status").out
    result = rstar_on(bench, "resume", "r2")
    assert "the same 'rstar run' or 'rstar submit' continues round r2" in result.out
    assert "will be suspended" not in rstar_on(bench, "status").out
    assert "will not continue it" in rstar_on(bench, "cancel", "r2", "--yes").out
    assert "round r2 will be cancelled" in rstar_on(bench, "status").out


def test_an_unknown_round_is_an_error_that_lists_the_known_ones_and_a_complete_round_cannot_be_changed(
    bench: Bench,
) -> None:
    bench.rounds(1)
    bench.run()
    for command in ("suspend", "resume", "logs"):
        assert_refused(rstar_on(bench, command, "r2"), "there is no round 'r2' in the store", "known are r1")
    assert_refused(rstar_on(bench, "suspend", "r1"), "round r1 is complete")
    assert_refused(rstar_on(bench, "cancel", "r1", "--yes"), "round r1 is complete")


def test_options_of_a_store_and_of_a_cluster_exclude_each_other(bench: Bench) -> None:
    assert_refused(rstar_on(bench, "status", "-n", "lab"), "give --store for this machine, or --namespace")
    assert_refused(
        rstar_on(bench, "submit", str(bench.file), "--upload-to", "s3://a/b"), "--upload-to is for a cluster"
    )
    without_cluster = rstar("status", "--kubeconfig", str(bench.file))
    assert_refused(without_cluster, "no cluster to talk to")


def test_logs_are_of_the_latest_attempt_or_of_the_attempt_that_the_options_name(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=3)
    bench.script("select", "fail", "fail", "refuse")
    bench.run()
    assert rstar_on(bench, "logs", "r1").out == "problems.jsonl:3: no question\n"
    assert rstar_on(bench, "logs", "r1", "--attempt", "1").out.endswith("RuntimeError: the disk is on fire\n")
    assert rstar_on(bench, "logs", "r1", "--stage", "select", "--attempt", "2", "--tail", "1").out == (
        "RuntimeError: the disk is on fire\n"
    )
    assert rstar_on(bench, "logs", "r1", "--stage", "rollout").out == ""
    every = [
        json.loads(line) for line in rstar_on(bench, "logs", "r1", "--all", "--tail", "1", "--json").out.splitlines()
    ]
    assert every == [
        {"source": "select-1", "text": "RuntimeError: the disk is on fire"},
        {"source": "select-2", "text": "RuntimeError: the disk is on fire"},
        {"source": "select-3", "text": "problems.jsonl:3: no question"},
    ]
    missing = rstar_on(bench, "logs", "r1", "--stage", "evaluate")
    assert missing.code == 1
    assert "round r1 has not started stage evaluate" in missing.err
    assert_refused(rstar_on(bench, "logs", "r1", "--stage", "select", "--service", "policy"), "--service or --stage")


def test_logs_are_followed_until_the_attempt_ends(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("select", "print")
    driver = driver_in_stage(bench, "select")
    reader = start_rstar(bench, "logs", "r1", "-f", "--tail", "1")
    assert reader.stdout is not None
    assert reader.stdout.readline() == "second line\n"
    (bench.control / "continue").touch()
    out, err = reader.communicate(timeout=60)
    assert (out, reader.returncode) == ("last line\n", 0), err
    driver.communicate(timeout=60)


def test_following_waits_for_a_stage_that_has_not_started(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "print")
    bench.script("select", "refuse")
    driver = driver_in_stage(bench, "rollout")
    reader = start_rstar(bench, "logs", "r1", "--stage", "select", "-f")
    assert reader.stderr is not None
    assert "has not started stage select" in reader.stderr.readline()
    (bench.control / "continue").touch()
    out, err = reader.communicate(timeout=60)
    assert out == "problems.jsonl:3: no question\n", err
    driver.communicate(timeout=60)


def test_logs_of_a_service_end_with_its_driver(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=2)
    (bench.control / "service-executor").write_text("crash")
    bench.run()
    assert rstar_on(bench, "logs", "r1", "--service", "executor").out == "no memory left\n"
    assert rstar_on(bench, "logs", "r1", "--service", "executor", "-f").out == "no memory left\n"
    every = rstar_on(bench, "logs", "r1", "--service", "executor", "--all").out
    assert every.splitlines() == ["no memory left", "[executor-3-0] no memory left"]
    missing = rstar_on(bench, "logs", "r1", "--service", "ppm")
    assert (missing.code, missing.out) == (1, "")
    assert "no ppm service has run" in missing.err


@pytest.mark.parametrize("command", [["logs", "r1", "-f"], ["status", "--watch"]])
def test_ctrl_c_ends_a_waiting_command_without_a_traceback(bench: Bench, command: list[str]) -> None:
    bench.rounds(1)
    bench.script("rollout", "print")
    driver = driver_in_stage(bench, "rollout")
    waiting = start_rstar(bench, *command)
    assert waiting.stdout is not None
    assert waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (130, "")
    driver.terminate()
    driver.communicate(timeout=60)


def test_a_watch_prints_each_change_as_json_and_ends_with_the_rounds(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("select", "print")
    driver = driver_in_stage(bench, "select")
    watch = start_rstar(bench, "status", str(bench.file), "--watch", "--json")
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    assert first["statuses"]["r1"]["stage"] == "select"
    assert first["statuses"]["r1"]["progressText"] == "1/2"
    (bench.control / "continue").touch()
    out, err = watch.communicate(timeout=60)
    assert watch.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["statuses"]["r1"]["phase"] == "Succeeded"
    driver.communicate(timeout=60)


@pytest.mark.parametrize("which", [(), ("FILE",), ("e-r4",)], ids=["all", "file", "name"])
def test_a_watch_ends_with_an_evolution_that_stops_early(bench: Bench, which: tuple[str, ...]) -> None:
    bench.evolution(4, coverageGainBelow=0.01)
    bench.run()
    named = [str(bench.file) if word == "FILE" else word for word in which]
    done = rstar_on(bench, "status", *named, "--watch")
    assert done.code == 0, done.err
    assert "not made: the coverage rose by 0.0000" in " ".join(done.out.split())


def test_a_submitted_file_runs_in_the_background(bench: Bench) -> None:
    bench.rounds(2)
    first, second = bench.file.with_name("a.yaml"), bench.file.with_name("b.yaml")
    documents = bench.file.read_text().split("---\n")
    first.write_text(documents[0])
    second.write_text(documents[1])
    work = bench.store / ".rstar"
    # Suspended before it starts, so that the test needs no model.
    Control(work / "r1").write(RequestedChanges(suspend=True))
    submitted = rstar_on(bench, "submit", str(second), str(first), "--json")
    assert submitted.code == 0, submitted.err
    assert json.loads(submitted.out) == {"rounds": {"r1": "started", "r2": "started"}}
    pid = driver_pid(work)
    assert pid is not None
    try:
        assert f"pid {pid} is running them in the background" in submitted.err
        eventually(lambda: "Suspended" in rstar_on(bench, "status", "r1").out)
        assert f"driver running: pid {pid}" in rstar_on(bench, "status").out
        assert "round r1 is suspended until 'rstar resume r1" in (work / "run.log").read_text()
        assert rstar_on(bench, "submit", str(first), str(second)).out == "r1: unchanged\nr2: unchanged\n"
        other = rstar_on(bench, "submit", str(first))
        assert other.code == 1
        assert f"another driver is running in the store {bench.store} (pid {pid})" in other.err
        rstar_on(bench, "cancel", "r1", "--yes")
        eventually(lambda: driver_pid(work) is None)
    finally:
        if driver_pid(work) == pid:
            os.kill(int(pid), signal.SIGTERM)
    assert "Failed" in rstar_on(bench, "status", "r1").out


def test_nothing_is_started_for_invalid_files(bench: Bench) -> None:
    bench.rounds(1)
    assert_refused(
        rstar_on(bench, "submit", str(bench.file), str(bench.file)), "more than one round of the files has this name"
    )
    bench.problems.write_text("{}\n")
    assert_refused(rstar_on(bench, "submit", str(bench.file)), "round r1: spec.problems")
    assert not (bench.store / ".rstar").exists()


def test_shell_completion_suggests_rounds_and_never_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rounds(2)
    bench.run()

    def suggestions(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_RSTAR_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        result = CliRunner().invoke(app, prog_name="rstar")
        assert result.exit_code == 0
        return result.output.split()

    assert {"r1", "r2"} <= set(suggestions(f"rstar status --store {bench.store} r"))
    assert suggestions(f"rstar status {bench.file.parent}/rou") == [str(bench.file)]
    assert suggestions(f"rstar cancel --store {bench.store} r2") == ["r2"]
    assert suggestions(f"rstar logs --kubeconfig {bench.file} r") == []

"""Submitting, watching, reading logs, suspending, resuming, cancelling: in a folder, with real drivers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rstar.cli.main import app
from rstar.local.control import Control, Wish
from rstar.local.lock import driver_pid
from tests.rstar.cli.test_commands import PLAIN, RSTAR, Ended, refused, rstar
from tests.rstar.local.test_driver import Bench, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def on(bench: Bench, *arguments: str) -> Ended:
    return rstar(*arguments, "--store", str(bench.store))


def begun(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RSTAR, *arguments, "--store", str(bench.store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=PLAIN,
    )


def working(bench: Bench, stage: str, count: int = 1) -> subprocess.Popen[str]:
    """Start a driver and wait until it has begun ``stage``."""
    driver = bench.driver()
    eventually(lambda: bench.started().count(("r1", stage)) == count)
    return driver


@pytest.mark.parametrize("command", ["submit", "logs", "suspend", "resume", "cancel"])
def test_every_command_explains_itself_with_examples_of_both_places(command: str) -> None:
    ended = rstar(command, "--help")
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert "Examples:" in text
    assert "-n lab" in text


def test_a_round_is_suspended_resumed_and_cancelled_under_a_running_driver(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "hang", "hang")
    driver = working(bench, "rollout")
    said = on(bench, "suspend", "r1")
    assert said.code == 0
    assert f"'rstar resume r1 --store {bench.store}' goes on" in said.out
    eventually(lambda: "Suspended" in on(bench, "status", "r1").out)
    assert "round r1 is suspended; 'rstar resume r1" in on(bench, "status").out
    again = json.loads(on(bench, "suspend", "r1", "--json").out)
    assert again == {"round": "r1", "changed": False, "message": "round r1 is suspended already"}
    assert "goes on" in on(bench, "resume", "r1").out
    eventually(lambda: len(bench.started()) == 2)
    assert "is not suspended" in on(bench, "resume", "r1").out
    refused(on(bench, "cancel", "r1"), "--yes")
    assert json.loads(on(bench, "cancel", "r1", "--yes", "--json").out)["changed"] is True
    driver.communicate(timeout=60)
    status = json.loads(on(bench, "status", "r1", "--json").out)["statuses"]["r1"]
    assert status["phase"] == "Failed"
    assert next(c for c in status["conditions"] if c["type"] == "Failed")["reason"] == "Cancelled"
    assert "is cancelled already" in on(bench, "cancel", "r1", "--yes").out
    refused(on(bench, "resume", "r1"), "round r1 was cancelled", "control.json")


def test_what_is_asked_while_nobody_is_at_work_holds_for_the_next_run(bench: Bench) -> None:
    bench.rounds(2)
    bench.order("rollout", "refuse")
    bench.run()
    said = on(bench, "suspend", "r2")
    assert "nobody is at work" in said.out
    assert f"'rstar resume r2 --store {bench.store}'" in said.out
    assert "round r2 is to be suspended" in on(bench, "status").out
    said = on(bench, "resume", "r2")
    assert "the same 'rstar run' or 'rstar submit' goes on with round r2" in said.out
    assert "is to be suspended" not in on(bench, "status").out
    assert "will not go on with it" in on(bench, "cancel", "r2", "--yes").out
    assert "round r2 is to be cancelled" in on(bench, "status").out


def test_a_round_that_is_not_there_names_the_nearest_and_a_complete_one_is_left_alone(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    for command in ("suspend", "resume", "logs"):
        refused(on(bench, command, "r2"), "there is no round 'r2' in the store", "known are r1")
    refused(on(bench, "suspend", "r1"), "round r1 is complete")
    refused(on(bench, "cancel", "r1", "--yes"), "round r1 is complete")


def test_a_cluster_and_a_store_are_not_named_at_once(bench: Bench) -> None:
    refused(on(bench, "status", "-n", "lab"), "give --store for this machine, or --namespace")
    refused(on(bench, "submit", str(bench.file), "--upload-to", "s3://a/b"), "--upload-to is for a cluster")
    elsewhere = rstar("status", "--kubeconfig", str(bench.file))
    refused(elsewhere, "no cluster to talk to")


def test_logs_are_those_of_the_attempt_begun_last_or_of_the_one_named(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=3)
    bench.order("select", "fail", "fail", "refuse")
    bench.run()
    assert on(bench, "logs", "r1").out == "problems.jsonl:3: no question\n"
    assert on(bench, "logs", "r1", "--attempt", "1").out.endswith("RuntimeError: the disk is on fire\n")
    assert on(bench, "logs", "r1", "--stage", "select", "--attempt", "2", "--tail", "1").out == (
        "RuntimeError: the disk is on fire\n"
    )
    assert on(bench, "logs", "r1", "--stage", "rollout").out == ""
    every = [json.loads(line) for line in on(bench, "logs", "r1", "--all", "--tail", "1", "--json").out.splitlines()]
    assert every == [
        {"source": "select-1", "text": "RuntimeError: the disk is on fire"},
        {"source": "select-2", "text": "RuntimeError: the disk is on fire"},
        {"source": "select-3", "text": "problems.jsonl:3: no question"},
    ]
    missing = on(bench, "logs", "r1", "--stage", "evaluate")
    assert missing.code == 1
    assert "round r1 has not begun stage evaluate" in missing.err
    refused(on(bench, "logs", "r1", "--stage", "select", "--service", "policy"), "--service or --stage")


def test_logs_are_followed_until_the_attempt_ends(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("select", "speak")
    driver = working(bench, "select")
    reader = begun(bench, "logs", "r1", "-f", "--tail", "1")
    assert reader.stdout is not None
    assert reader.stdout.readline() == "second word\n"
    (bench.control / "enough").touch()
    out, err = reader.communicate(timeout=60)
    assert (out, reader.returncode) == ("last word\n", 0), err
    driver.communicate(timeout=60)


def test_a_stage_that_is_still_to_come_is_waited_for(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("rollout", "speak")
    bench.order("select", "refuse")
    driver = working(bench, "rollout")
    reader = begun(bench, "logs", "r1", "--stage", "select", "-f")
    assert reader.stderr is not None
    assert "has not begun stage select" in reader.stderr.readline()
    (bench.control / "enough").touch()
    out, err = reader.communicate(timeout=60)
    assert out == "problems.jsonl:3: no question\n", err
    driver.communicate(timeout=60)


def test_services_have_logs_and_a_driver_that_is_gone_ends_them(bench: Bench) -> None:
    bench.rounds(1, maxAttempts=2)
    (bench.control / "service-executor").write_text("crash")
    bench.run()
    assert on(bench, "logs", "r1", "--service", "executor").out == "no memory left\n"
    assert on(bench, "logs", "r1", "--service", "executor", "-f").out == "no memory left\n"
    every = on(bench, "logs", "r1", "--service", "executor", "--all").out
    assert every.splitlines() == ["no memory left", "[executor-3-0] no memory left"]
    missing = on(bench, "logs", "r1", "--service", "ppm")
    assert (missing.code, missing.out) == (1, "")
    assert "no ppm service has run" in missing.err


@pytest.mark.parametrize("command", [["logs", "r1", "-f"], ["status", "--watch"]])
def test_ctrl_c_ends_what_waits_without_a_word_of_python(bench: Bench, command: list[str]) -> None:
    bench.rounds(1)
    bench.order("rollout", "speak")
    driver = working(bench, "rollout")
    waiting = begun(bench, *command)
    assert waiting.stdout is not None
    assert waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (130, "")
    driver.terminate()
    driver.communicate(timeout=60)


def test_a_watch_ends_with_the_rounds_and_tells_each_change_as_json(bench: Bench) -> None:
    bench.rounds(1)
    bench.order("select", "speak")
    driver = working(bench, "select")
    watch = begun(bench, "status", str(bench.file), "--watch", "--json")
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    assert first["statuses"]["r1"]["stage"] == "select"
    assert first["statuses"]["r1"]["progressText"] == "1/2"
    (bench.control / "enough").touch()
    out, err = watch.communicate(timeout=60)
    assert watch.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["statuses"]["r1"]["phase"] == "Succeeded"
    driver.communicate(timeout=60)


def test_a_submitted_file_runs_in_the_background(bench: Bench) -> None:
    bench.rounds(2)
    first, second = bench.file.with_name("a.yaml"), bench.file.with_name("b.yaml")
    documents = bench.file.read_text().split("---\n")
    first.write_text(documents[0])
    second.write_text(documents[1])
    work = bench.store / ".rstar"
    # Suspended from the start, it needs no model and no minute of work.
    Control(work / "r1").write(Wish(suspend=True))
    done = on(bench, "submit", str(second), str(first), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"rounds": {"r1": "started", "r2": "started"}}
    pid = driver_pid(work)
    assert pid is not None
    try:
        assert f"pid {pid} is at work on them in the background" in done.err
        eventually(lambda: "Suspended" in on(bench, "status", "r1").out)
        assert f"at work: pid {pid}" in on(bench, "status").out
        assert "round r1 is suspended: it waits" in (work / "run.log").read_text()
        assert on(bench, "submit", str(first), str(second)).out == "r1: unchanged\nr2: unchanged\n"
        other = on(bench, "submit", str(first))
        assert other.code == 1
        assert f"another run is at work in the store {bench.store} (pid {pid})" in other.err
        on(bench, "cancel", "r1", "--yes")
        eventually(lambda: driver_pid(work) is None)
    finally:
        if driver_pid(work) == pid:
            os.kill(int(pid), signal.SIGTERM)
    assert "Failed" in on(bench, "status", "r1").out


def test_nothing_is_started_for_files_with_faults(bench: Bench) -> None:
    bench.rounds(1)
    refused(on(bench, "submit", str(bench.file), str(bench.file)), "more than one round of the files has this name")
    bench.problems.write_text("{}\n")
    refused(on(bench, "submit", str(bench.file)), "round r1: spec.problems")
    assert not (bench.store / ".rstar").exists()


def test_the_shell_completes_names_of_rounds_and_never_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rounds(2)
    bench.run()

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_RSTAR_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        result = CliRunner().invoke(app, prog_name="rstar")
        assert result.exit_code == 0
        return result.output.split()

    assert {"r1", "r2"} <= set(completed(f"rstar status --store {bench.store} r"))
    assert completed(f"rstar status {bench.file.parent}/rou") == [str(bench.file)]
    assert completed(f"rstar cancel --store {bench.store} r2") == ["r2"]
    assert completed(f"rstar logs --kubeconfig {bench.file} r") == []

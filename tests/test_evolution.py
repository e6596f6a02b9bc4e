"""Two real rounds of self-evolution: base model, four services, five stages, and a driver that is killed once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rstar.store.digests import checkpoint_digest
from tests.support.paths import ROOT
from tests.support.rpc.collector import Collector, collector

pytestmark = pytest.mark.slow

GAME24 = ROOT / "examples/game24"
RSTAR = str(Path(sysconfig.get_path("scripts")) / "rstar")
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "passive"}


def small_rounds() -> str:
    """Return the quick example with fewer games, all of three numbers."""
    document = yaml.safe_load((GAME24 / "quick.yaml").read_text())
    spec = document["spec"]["template"]
    spec["rollout"]["search"] |= {"tokenBudget": 300}
    spec["rollout"]["shardSize"] = 8
    spec["trainPolicy"]["maxTrainTokens"] = spec["trainPpm"]["maxTrainTokens"] = 8_000
    for method in spec["evaluate"]["methods"]:
        method["tokenBudget"] = 100
        method["rollouts"] = 4
    spec["select"]["heldOutFraction"] = 0.2
    spec["trackers"] = ["tensorboard"]
    return yaml.safe_dump(document)


def run(store: Path, rounds: Path, **environment: str) -> subprocess.Popen[str]:
    command = [RSTAR, "run", str(rounds), "--store", str(store), "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environment,
        start_new_session=True,
    )


def processes_on(store: Path) -> list[str]:
    """Return the command lines of the processes that name this store."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(store) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def spans() -> Iterator[Collector]:
    """Collect the spans of all processes."""
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory, spans: Collector) -> tuple[Path, dict]:
    """Make games and a base model, start two rounds, kill the driver with SIGKILL, run the rounds to the end."""
    folder = tmp_path_factory.mktemp("evolution")
    store, rounds = folder / "store", folder / "rounds.yaml"
    rounds.write_text(small_rounds())
    subprocess.run(
        [
            RSTAR,
            "data",
            "make",
            "game24",
            "--out",
            str(store / "data"),
            "--train",
            "3:24",
            "--validation",
            "3:4",
            "--held-out",
            "3:8",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(
        [
            sys.executable,
            str(GAME24 / "pretrain.py"),
            "--out",
            str(store / "models/base"),
            "--plays",
            "12000",
            "--sizes",
            "3",
            "--exclude",
            str(store / "data/held-out.jsonl"),
        ],
        check=True,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{spans.address}"}
    first = run(store, rounds, **traced)
    deadline = time.monotonic() + 300
    while not list(store.glob("rounds/quick-r1/rollout/*/trees/*.parquet")) and first.poll() is None:
        assert time.monotonic() < deadline, "no shard was stored"
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = run(store, rounds, **traced)
    out, err = second.communicate()
    assert second.returncode == 0, err
    return store, json.loads(out)


@pytest.mark.timeout(1_800)
def test_two_rounds_succeed_with_an_evaluation_each(evolved: tuple[Path, dict]) -> None:
    _, result = evolved
    assert [row["phase"] for row in result["rounds"]] == ["Succeeded", "Succeeded"]
    for row in result["rounds"]:
        assert row["coverage"] > 0
        names = [method["name"] for method in row["methods"]]
        assert names == ["greedy", "best-of-16", "mcts+ppm"]
        assert all(method["problems"] == 8 and not method["errors"] for method in row["methods"])


def test_every_round_restarts_from_the_base_model_and_the_ppm_from_its_rounds_policy(
    evolved: tuple[Path, dict],
) -> None:
    store, _ = evolved
    manifests = {
        (path.parts[-4], path.parts[-3]): (path, json.loads(path.read_text()))
        for path in store.glob("rounds/*/*/*/manifest.json")
    }
    base = checkpoint_digest(store / "models/base")
    for number in (1, 2):
        _, policy = manifests[f"quick-r{number}", "train-policy"]
        assert base in policy["sources"]["base_model"]
        path, _ = manifests[f"quick-r{number}", "train-policy"]
        _, ppm = manifests[f"quick-r{number}", "train-ppm"]
        assert ppm["inputs"]["policy"]["key"] == str(path.relative_to(store))
    _, rollout = manifests["quick-r2", "rollout"]
    assert "quick-r1/train-policy" in rollout["inputs"]["policy"]["key"]


def test_checkpoints_load_without_this_project(evolved: tuple[Path, dict]) -> None:
    store, _ = evolved
    [policy] = store.glob("rounds/quick-r2/train-policy/*/checkpoint")
    [ppm] = store.glob("rounds/quick-r2/train-ppm/*/checkpoint")
    assert AutoTokenizer.from_pretrained(policy).encode("<end_of_step>", add_special_tokens=False)
    assert AutoModelForCausalLM.from_pretrained(policy).num_parameters() > 0
    assert AutoModelForSequenceClassification.from_pretrained(ppm).config.num_labels == 1


def test_a_round_is_one_trace_from_its_stages_to_the_servers_of_the_models(
    evolved: tuple[Path, dict], spans: Collector
) -> None:
    rounds = {span.attributes["round"]: span for span in spans.named("round")}
    assert set(rounds) == {"quick-r1", "quick-r2"}
    for name, whole in rounds.items():
        parts = [span for span in spans.spans if span.trace_id == whole.trace_id]
        stages = [span for span in parts if span.parent == whole.span_id]
        names = {f"stage {name}" for name in ("rollout", "select", "train-policy", "train-ppm", "evaluate")}
        assert {span.name for span in stages} == names
        assert [span for span in stages if span.failed] == []
        searches = [span for span in parts if span.name == "search"]
        of_stage = {span.span_id: span.name for span in stages}
        parents = {of_stage.get(span.parent, "killed") for span in searches}
        # The rollout of round 1 was killed, and may have had nothing left to search when it continued.
        assert parents - ({"stage rollout", "killed"} if name == "quick-r1" else set()) == (
            {"stage evaluate"} if name == "quick-r1" else {"stage rollout", "stage evaluate"}
        )
        assert {span.service for span in parts} >= {"rstar-search", "rstar-policy", "rstar-executor", "rstar-ppm"}
        answered = [span for span in parts if span.name == "rstar.v1.PolicyService/Propose"]
        assert {span.attributes["round"] for span in answered} == {name}
        assert all(span.attributes["queue_seconds"] >= 0 for span in answered if "cancelled" not in span.attributes)


def test_the_logs_of_services_name_round_stage_problem_and_span(evolved: tuple[Path, dict]) -> None:
    store, _ = evolved
    lines = [line for path in store.glob(".rstar/**/*.log") for line in path.read_text().splitlines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    stored = [event for event in events if event["event"] == "shard stored"]
    assert {event["round"] for event in stored} == {"quick-r1", "quick-r2"}
    assert {event["stage"] for event in stored} == {"rollout", "evaluate"}
    assert all(len(event["trace_id"]) == 32 for event in stored)


def test_the_tracker_has_every_stage_of_a_round_in_one_run(evolved: tuple[Path, dict]) -> None:
    store, result = evolved
    for number, row in enumerate(result["rounds"], 1):
        tags: dict[str, list[float]] = {}
        for path in sorted(store.glob(f"rounds/quick-r{number}/tensorboard/*")):
            events = EventAccumulator(str(path))
            events.Reload()
            for tag in events.Tags()["tensors"]:
                tags.setdefault(tag, []).extend(event.step for event in events.Tensors(tag))
        assert set(tags["result/rollout/coverage"]) == {number}
        assert tags["train-policy/loss"]
        assert tags["train-ppm/loss"]
        assert tags["rollout/tokens"]
        for method in row["methods"]:
            assert set(tags[f"result/evaluate/methods/{method['name']}/accuracy"]) == {number}


def test_nothing_is_left_running(evolved: tuple[Path, dict]) -> None:
    store, _ = evolved
    assert processes_on(store) == []


def test_a_second_run_changes_nothing_and_reports_the_same(evolved: tuple[Path, dict]) -> None:
    store, result = evolved
    before = sorted(store.glob("rounds/**/*"))
    again = run(store, store.parent / "rounds.yaml")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert json.loads(out)["rounds"] == result["rounds"]
    assert sorted(store.glob("rounds/**/*")) == before

"""Two real rounds of self-evolution: base model, four services, five stages, and a driver that is killed once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rstar.store.digests import checkpoint_digest
from tests.support.paths import ROOT

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
    return yaml.safe_dump(document)


def run(store: Path, rounds: Path) -> subprocess.Popen[str]:
    command = [RSTAR, "run", str(rounds), "--store", str(store), "--json"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
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
def evolved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
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
    first = run(store, rounds)
    deadline = time.monotonic() + 300
    while not list(store.glob("rounds/quick-r1/rollout/*/trees/*.parquet")) and first.poll() is None:
        assert time.monotonic() < deadline, "no shard was stored"
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = run(store, rounds)
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

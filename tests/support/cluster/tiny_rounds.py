"""Small rounds of the Game of 24 with work for every stage, what they need, and ``rstar run`` of them on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import yaml

from rstar.cluster.api import Json
from tests.support.paths import ROOT

GAME24 = ROOT / "examples/game24"
RSTAR = str(Path(sysconfig.get_path("scripts")) / "rstar")
PROBLEMS, SHARD = 12, 4
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def tiny_rounds(count: int) -> list[Json]:
    """Return ``count`` rounds of the quick example, as small as possible with work for every stage.

    One search at a time, so that results do not depend on which calls share a batch: the same seed gives the same bytes. A
    PPM guides the third round; the last one is evaluated.
    """
    limits = {"seconds": 60, "memoryMib": 256, "outputBytes": 4096, "fileMib": 1}
    documents = []
    for number in range(1, count + 1):
        spec = yaml.safe_load((GAME24 / "quick.yaml").read_text())["spec"]["template"]
        kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
        body = {**kind, "metadata": {"name": f"r{number}"}, "spec": spec}
        spec |= {"round": number, "lifecycle": {"backoffSeconds": 1}}
        if number > 1:
            spec["previousRound"] = f"r{number - 1}"
        spec["rollout"] |= {"concurrency": 1, "shardSize": SHARD}
        # On games this small a tree soon has a correct trajectory; the wrong ones, which pairs need too, take more tokens.
        spec["rollout"]["search"] |= {"tokenBudget": 500, "candidates": 8, "rollouts": 50, "execution": limits}
        spec["preferenceModel"] = {"use": "always" if number == 3 else "auto"}
        spec["select"] |= {"minVisits": 1, "heldOutFraction": 0.2}
        # A policy that learns more solves every game, and without wrong trajectories there are no pairs.
        spec["trainPolicy"] |= {"maxTrainTokens": 1_000, "batchSize": 16, "learningRate": 1e-4}
        spec["trainPpm"] |= {"maxTrainTokens": 1_000, "batchSize": 16}
        greedy, _, guided = spec["evaluate"]["methods"]
        guided |= {"tokenBudget": 60, "rollouts": 3}
        methods = [method | {"execution": limits} for method in (greedy, guided)]
        spec["evaluate"] |= {"concurrency": 1, "methods": methods}
        if number < count:
            del spec["evaluate"]
        documents.append(json.loads(json.dumps(body)))
    return documents


def make_games(store: Path) -> None:
    """Write games to a folder store, and to ``others.jsonl`` those that the base model must not see: all but the training games."""
    sizes = [f"--train=3:{PROBLEMS}", "--validation=3:2", "--held-out=3:4"]
    command = [RSTAR, "data", "make", "game24", f"--out={store / 'data'}", *sizes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (store / "data/train.jsonl").read_text().splitlines()
    seen = {tuple(sorted(json.loads(line)["nums"])) for line in lines}
    others = [game for game in combinations_with_replacement(range(1, 11), 3) if game not in seen]
    (store / "others.jsonl").write_text("".join(json.dumps({"nums": game}) + "\n" for game in others))


def start_base_model(store: Path) -> subprocess.Popen[bytes]:
    """Start training a base model on the training games alone: it soon solves some games and fails others."""
    skilled = "import pretrain, typer; pretrain.SKILL = 0.5; typer.run(pretrain.main)"
    plays = [f"--exclude={store / 'others.jsonl'}", "--plays=4000", "--sizes=3"]
    command = [sys.executable, "-c", skilled, f"--out={store / 'models/base'}", *plays]
    environment = ONE_THREAD | {"PYTHONPATH": str(GAME24)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def local_run(store: Path, rounds: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the rounds with ``rstar run`` in the background."""
    command = [RSTAR, "run", str(rounds), f"--store={store}"]
    with output.open("w") as out:
        process = subprocess.Popen(command, env=ONE_THREAD, stdout=out, stderr=out)
        try:
            yield process
        finally:
            # SIGTERM: the driver ends its child processes.
            process.terminate()
            process.wait()

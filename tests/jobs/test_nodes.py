"""Training on two nodes: two launchers with the environment that an elastic PyTorchJob gives its workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rstar.rounds.observed import ManifestRef
from tests.jobs.world import FAST, World, examples, make_base
from tests.rpc.servicers import free_port

NODES = 2


class Node:
    """One worker pod: a launcher, its termination message and its progress."""

    def __init__(self, made: World, select: ManifestRef, number: int, port: int) -> None:
        self.message = made.folder / f"message-{number}"
        self.progress = made.folder / f"progress-{number}"
        self.message.write_text("")
        self.log = (made.folder / f"log-{number}").open("w+")
        environment = {
            "PET_NNODES": f"{NODES}:{NODES}",
            "PET_NPROC_PER_NODE": "1",
            "PET_MAX_RESTARTS": "0",
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
            "PET_RDZV_ID": "r1-train-policy-1",
        }
        more = ["--result", str(self.message), "--progress", str(self.progress)]
        command = [str(Path(sys.executable).parent / "torchrun"), "-m", "rstar_jobs.train_policy"]
        self.process = subprocess.Popen(
            [*command, *made.arguments({"select": select}, *more)],
            env={**os.environ, **FAST, **environment},
            stdout=self.log,
            stderr=self.log,
        )

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.log.close()


@contextmanager
def attempt(made: World, select: ManifestRef) -> Iterator[list[Node]]:
    port = free_port()
    nodes = [Node(made, select, number, port) for number in range(NODES)]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.end()


def said(nodes: list[Node]) -> dict[str, object]:
    """The one message of all pods."""
    (message,) = [text for node in nodes if (text := node.message.read_text())]
    content: dict[str, object] = json.loads(message)
    return content


@pytest.mark.timeout(400)
def test_two_nodes_train_one_model_save_on_sigterm_and_go_on_and_one_of_them_speaks_for_all(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    settings = {"epochs": 6, "batchSize": 4, "saveSteps": 100_000}
    made = World(tmp_path, baseModel=str(tmp_path / "base"), trainPolicy=settings)
    select = made.selected(examples(20), [])
    with attempt(made, select) as nodes:
        while not any(node.progress.exists() for node in nodes):
            assert all(node.process.poll() is None for node in nodes), (tmp_path / "log-0").read_text()
            time.sleep(0.01)
        for node in nodes:
            node.process.send_signal(signal.SIGTERM)
        assert [node.process.wait() for node in nodes] == [1, 1]
    assert said(nodes)["exit_code"] == 143
    (latest,) = [key for key in made.store.list("rounds/r1/train-policy/") if key.endswith("resume/latest.json")]
    step = json.loads(made.store.read(latest))["step"]
    assert 0 < step < 30

    for path in tmp_path.glob("progress-*"):
        path.unlink()
    with attempt(made, select) as nodes:
        assert [node.process.wait() for node in nodes] == [0, 0], (tmp_path / "log-0").read_text()
    result = said(nodes)
    assert made.store.exists(str(result["manifest"]))
    assert result["metrics"]["steps"] == 30  # type: ignore[index]
    assert sum(f'"checkpoint-{step}"' in path.read_text() for path in tmp_path.glob("log-*")) == NODES
    assert [node.progress.exists() for node in nodes].count(True) == 1

"""``up --node`` and its end. Before the other modules, because a machine has one node at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from rstar_testbed.__main__ import ENVIRONMENT
from rstar_testbed.node.namespaces import remove_abandoned_cgroups

from tests.support.cluster.pods import wait_until


def traces(folder: Path) -> list[str]:
    """Return what of a node exists on the machine: interfaces, routes, mounts, cgroups and processes."""
    commands = (["ip", "-brief", "link"], ["ip", "route"], ["mount"], ["ps", "-eo", "args"])
    lines = [
        line for command in commands
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ]  # fmt: skip
    remove_abandoned_cgroups()
    found = [line for line in lines if "rstar-node" in line or str(folder) in line or "containerd-shim" in line]
    return found + [str(path) for path in Path("/sys/fs/cgroup").glob("**/rstar-testbed-*")]


def test_a_node_whose_process_is_killed_leaves_nothing_on_the_machine(tmp_path: Path) -> None:
    folder, log = tmp_path / "bed", tmp_path / "log"
    command = [
        sys.executable, "-m", "rstar_testbed", "up", "--folder", str(folder), "--node", "--no-minio", "--no-training-operator",
    ]  # fmt: skip
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as up:
        try:
            wait_until(
                lambda: (folder / ENVIRONMENT).exists() or up.poll() is not None, "a node that is up", seconds=1500
            )
            assert up.poll() is None, log.read_text()
            environment = {**os.environ, **json.loads((folder / ENVIRONMENT).read_text())}
            shell = [sys.executable, "-m", "rstar_testbed", "shell", str(folder)]
            nodes = subprocess.run(
                shell, env=environment | {"SHELL": "/bin/sh", "PATH": os.environ["PATH"]},
                input="kubectl get nodes", capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert "Ready" in nodes.stdout
            assert traces(folder)
        finally:
            up.send_signal(signal.SIGKILL)
    wait_until(lambda: not traces(folder), "no trace of the node")

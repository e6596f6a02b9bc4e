"""The operator's command line: wrong addresses and taken ports end it with one sentence, before it watches anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.operators import SETTINGS

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {"token": "none"}}],
}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the operator in a process of its own, because it configures the logs of the whole process."""
    kubeconfig, config = folder / "kubeconfig", folder / "operator.yaml"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    config.write_text(yaml.safe_dump(dict(SETTINGS)))
    command = [sys.executable, "-m", "rstar_operator", "run", f"--config={config}", *options]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "TERM": "dumb"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize("option", ["--liveness", "--metrics"])
def test_an_address_without_a_port_is_refused(tmp_path: Path, option: str) -> None:
    done = run(tmp_path, f"{option}=localhost")
    assert done.returncode == 2
    assert "write HOST:PORT" in done.stderr


def test_a_taken_port_for_metrics_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(tmp_path, "--liveness=", f"--metrics={address}")
    assert done.returncode == 2
    assert done.stderr == f"rstar-operator: --metrics: cannot listen on {address}: Address already in use\n"

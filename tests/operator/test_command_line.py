"""The operator's command line: wrong addresses and taken ports end it with one sentence, before it watches anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml
from rstar_operator.main import app
from typer.testing import CliRunner

from tests.support.cluster.operators import SETTINGS

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {"token": "none"}}],
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kubeconfig, config = tmp_path / "kubeconfig", tmp_path / "operator.yaml"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    config.write_text(yaml.safe_dump(dict(SETTINGS)))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    return config


@pytest.mark.parametrize("option", ["--liveness", "--metrics"])
def test_an_address_without_a_port_is_refused(config: Path, option: str) -> None:
    result = CliRunner().invoke(app, ["run", f"--config={config}", f"{option}=localhost"])
    assert result.exit_code == 2
    assert "write HOST:PORT" in result.output


def test_a_taken_port_for_metrics_is_one_sentence(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(app, ["run", f"--config={config}", "--liveness=", f"--metrics={address}"])
    assert result.exit_code == 2
    assert result.output == f"rstar-operator: --metrics: cannot listen on {address}: Address already in use\n"

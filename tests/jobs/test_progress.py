"""Progress in a ConfigMap, against an HTTP server that works, fails or never answers as an API server might."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_jobs.invocation import Invocation
from rstar_jobs.program import run
from rstar_jobs.progress import Progress, open_destination
from rstar_jobs.select import work
from structlog.testing import capture_logs

from rstar.cluster.progress import ConfigMapProgress
from rstar.rounds.observed import Stage
from rstar.rpc.tls import CertificateError, TlsSettingsError
from tests.support.jobs.stage_workspace import StageWorkspace

PATH = "/api/v1/namespaces/lab/configmaps/r1-rollout-1"


class Api:
    """The received patches, and the HTTP status of the answers; 0: no answer."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.patches: list[tuple[str, str, dict[str, Any]]] = []
        self.over = threading.Event()
        self.arrived = threading.Event()


@contextmanager
def api_server(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 200) -> Iterator[Api]:
    api = Api(status)

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.patches.append((self.path, self.headers["Content-Type"], body))
            api.arrived.set()
            if not api.status:
                api.over.wait()
                return
            answer = b"{}"
            self.send_response(api.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _use(monkeypatch, folder, server.server_address[1])
    try:
        yield api
    finally:
        api.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _use(monkeypatch: pytest.MonkeyPatch, folder: Path, port: int) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("POD_NAMESPACE", "lab")


def test_the_configmap_gets_the_latest_report_and_the_last_one_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server(tmp_path, monkeypatch) as api:
        progress = Progress(ConfigMapProgress("r1-rollout-1", period=3600), "rollout")
        progress.report(1, 9, last=True, solved=1)
        api.arrived.wait()
        for done in range(2, 10):
            progress.report(done, 9, last=True, solved=done, loss=float("nan"))
        progress.close()
    assert len(api.patches) == 2
    path, kind, body = api.patches[-1]
    assert (path, kind) == (PATH, "application/merge-patch+json")
    assert json.loads(body["data"]["progress.json"]) == {"stage": "rollout", "done": 9, "total": 9, "solved": 9}


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refused_patches_are_logged_once_and_later_reports_are_still_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with capture_logs() as logs, api_server(tmp_path, monkeypatch, status) as api:
        destination = ConfigMapProgress("r1-rollout-1", period=0)
        for text in ("1", "2", "3"):
            api.arrived.clear()
            destination.write(text)
            api.arrived.wait()
        destination.close()
    assert [body["data"]["progress.json"] for _, _, body in api.patches] == ["1", "2", "3"]
    assert [line["configmap"] for line in logs if line["log_level"] == "warning"] == ["r1-rollout-1"]


def test_a_server_that_never_answers_delays_neither_a_report_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server(tmp_path, monkeypatch, 0) as api:
        destination = ConfigMapProgress("r1-rollout-1", closing=0.01)
        destination.write("1")
        api.arrived.wait()
        destination.write("2")
        destination.close()
        assert not api.over.is_set()


@pytest.mark.parametrize("setting", ["no server listens", "no cluster at all"])
def test_a_stage_succeeds_without_an_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    _use(monkeypatch, tmp_path, 1)
    if setting == "no cluster at all":
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    workspace = StageWorkspace(tmp_path)
    done = workspace.process("select", {"rollout": workspace.rolled_out()}, "--progress", "configmap:r1-select-1")
    assert done.returncode == 0, done.stderr
    assert workspace.outcome()["manifest"]
    assert done.stderr.count("progress is not reported") <= 1


def test_only_the_leader_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with api_server(tmp_path, monkeypatch) as api:
        for rank, patches in (("1", 0), ("0", 1)):
            monkeypatch.setenv("RANK", rank)
            (tmp_path / rank).mkdir()
            workspace = StageWorkspace(tmp_path / rank)
            arguments = workspace.arguments({"rollout": workspace.rolled_out()}, "--progress", "configmap:r1-rollout-1")
            assert run(Stage.SELECT, work, arguments) == 0
            assert len(api.patches) == patches
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("error", "code"), [(TlsSettingsError, 2), (CertificateError, 1)])
def test_a_certificate_that_may_be_renewed_ends_a_stage_so_that_it_is_tried_again(
    error: type[Exception], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    workspace = StageWorkspace(tmp_path)

    def refuse(_: Invocation) -> None:
        raise error("a sentence")

    assert run(Stage.SELECT, refuse, workspace.arguments({"rollout": workspace.rolled_out()})) == code
    signal.signal(signal.SIGTERM, before)
    assert [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")] == ["error: a sentence"]


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "-a", "a" * 254])
def test_an_impossible_name_of_a_configmap_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names no ConfigMap"):
        open_destination(f"configmap:{name}")

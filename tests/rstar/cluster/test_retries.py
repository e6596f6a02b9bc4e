"""What a command does when the API server puts it off: a real HTTP server answers as a crowded one does."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rstar.cli.namespace_location import connect_namespace
from rstar.cluster.api import PATIENCE_SECONDS, ROUNDS, Cluster, ClusterError

REFUSAL = {"kind": "Status", "reason": "TooManyRequests", "message": "storage is (re)initializing"}


class CrowdedServer(http.server.BaseHTTPRequestHandler):
    """Puts requests off with each of ``pauses`` (None: without saying for how long), then does what they ask."""

    pauses: list[str | None]
    asked: list[str]

    def do_GET(self) -> None:
        self._serve({"items": [], "metadata": {"resourceVersion": "1"}})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: object) -> None:
        self.asked.append(self.command)
        put_off = bool(self.pauses)
        answer = json.dumps(REFUSAL if put_off else body).encode()
        self.send_response(429 if put_off else 200)
        if put_off and (pause := self.pauses.pop(0)) is not None:
            self.send_header("Retry-After", pause)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    CrowdedServer.asked, CrowdedServer.pauses = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CrowdedServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"kind": "Config", "current-context": "c", **config}))
        yield path
        server.shutdown()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("rstar.cluster.api.sleep", pauses.append)
    return pauses


def test_a_request_that_is_put_off_is_made_again_when_the_server_says(kubeconfig: Path, slept: list[float]) -> None:
    CrowdedServer.pauses = ["3", None, "0", "soon"]
    assert Cluster.connect(kubeconfig, patience=PATIENCE_SECONDS).list(ROUNDS, "lab") == []
    assert slept == [3, 1, 0.1, 1]
    CrowdedServer.pauses = ["2"]
    body = {"metadata": {"name": "r1"}}
    assert Cluster.connect(kubeconfig, patience=PATIENCE_SECONDS).create(ROUNDS, "lab", body) == body
    assert CrowdedServer.asked == ["GET"] * 5 + ["POST"] * 2


def test_patience_ends(kubeconfig: Path, slept: list[float]) -> None:
    CrowdedServer.pauses = ["10"] * 9
    with pytest.raises(ClusterError, match=r"storage is \(re\)initializing") as told:
        Cluster.connect(kubeconfig, patience=25).list(ROUNDS, "lab")
    assert told.value.code == 429
    assert slept == [10, 10]


def test_who_asks_for_no_patience_is_told_at_once(kubeconfig: Path, slept: list[float]) -> None:
    CrowdedServer.pauses = ["1"]
    with pytest.raises(ClusterError):
        Cluster.connect(kubeconfig).list(ROUNDS, "lab")
    assert (slept, CrowdedServer.asked) == ([], ["GET"])


def test_commands_are_patient(kubeconfig: Path, slept: list[float]) -> None:
    CrowdedServer.pauses = ["5"]
    assert connect_namespace("lab", None, kubeconfig).rounds() == {}
    assert slept == [5]

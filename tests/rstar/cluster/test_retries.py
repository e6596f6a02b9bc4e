"""Requests that the API server puts off: a real HTTP server answers as an overloaded API server does."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rstar.cluster.api import RETRY_SECONDS, ROUNDS, Cluster, ClusterError
from rstar.locations.namespace_location import connect_namespace

REFUSAL = {"kind": "Status", "reason": "TooManyRequests", "message": "storage is (re)initializing"}


class OverloadedServer(http.server.BaseHTTPRequestHandler):
    """Puts requests off with each of ``pauses`` (None: without a number of seconds), then answers them."""

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
    OverloadedServer.asked, OverloadedServer.pauses = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OverloadedServer) as server:
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


def test_a_request_that_is_put_off_is_repeated_after_the_pause_that_the_server_asks_for(
    kubeconfig: Path, slept: list[float]
) -> None:
    OverloadedServer.pauses = ["3", None, "0", "soon"]
    assert Cluster.connect(kubeconfig, retry_seconds=RETRY_SECONDS).list(ROUNDS, "lab") == []
    assert slept == [3, 1, 0.1, 1]
    OverloadedServer.pauses = ["2"]
    body = {"metadata": {"name": "r1"}}
    assert Cluster.connect(kubeconfig, retry_seconds=RETRY_SECONDS).create(ROUNDS, "lab", body) == body
    assert OverloadedServer.asked == ["GET"] * 5 + ["POST"] * 2


def test_repeating_ends_after_retry_seconds(kubeconfig: Path, slept: list[float]) -> None:
    OverloadedServer.pauses = ["10"] * 9
    with pytest.raises(ClusterError, match=r"storage is \(re\)initializing") as caught:
        Cluster.connect(kubeconfig, retry_seconds=25).list(ROUNDS, "lab")
    assert caught.value.code == 429
    assert slept == [10, 10]


def test_without_retry_seconds_the_error_is_raised_at_once(kubeconfig: Path, slept: list[float]) -> None:
    OverloadedServer.pauses = ["1"]
    with pytest.raises(ClusterError):
        Cluster.connect(kubeconfig).list(ROUNDS, "lab")
    assert (slept, OverloadedServer.asked) == ([], ["GET"])


def test_commands_repeat_requests(kubeconfig: Path, slept: list[float]) -> None:
    OverloadedServer.pauses = ["5"]
    assert connect_namespace("lab", None, kubeconfig).rounds() == {}
    assert slept == [5]

"""Both stores, a folder and a bucket on a real S3 server (a ``minio`` on the path, else moto's); and rounds to drive."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from minio import Minio
from urllib3 import PoolManager

from rstar.store.open import open_store
from rstar.store.store import Store
from tests.support.local.bench import Bench


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running S3 server."""
    folder = tmp_path_factory.mktemp("s3")
    port = _free_port()
    keys = {"AWS_ACCESS_KEY_ID": "rstar-test", "AWS_SECRET_ACCESS_KEY": "rstar-test-secret"}
    if binary := shutil.which("minio"):
        command = [binary, "server", str(folder / "data"), "--address", f"127.0.0.1:{port}"]
    else:
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": keys["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": keys["AWS_SECRET_ACCESS_KEY"],
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"the S3 server does not start: {(folder / 'log').read_text()}")
                time.sleep(0.05)
        yield {"RSTAR_S3_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1", **keys}
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def client(s3: dict[str, str]) -> Minio:
    """Another client of the server."""
    return Minio(
        s3["RSTAR_S3_ENDPOINT"].removeprefix("http://"),
        access_key=s3["AWS_ACCESS_KEY_ID"],
        secret_key=s3["AWS_SECRET_ACCESS_KEY"],
        secure=False,
        region=s3["AWS_REGION"],
    )


@pytest.fixture
def bucket(s3: dict[str, str], client: Minio, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket; the environment opens it."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex}"
    client.make_bucket(name)
    return name


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The method and path of every HTTP request to a bucket from now on."""
    seen: list[tuple[str, str]] = []
    urlopen = PoolManager.urlopen

    def recorded(self: PoolManager, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        seen.append((method, urlsplit(url).path))
        return urlopen(self, method, url, *arguments, **options)

    monkeypatch.setattr(PoolManager, "urlopen", recorded)
    return seen


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{request.getfixturevalue('bucket')}/some/prefix")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Rounds on this machine; the processes that a test starts on them end with it."""
    with Bench(tmp_path) as bench:
        yield bench

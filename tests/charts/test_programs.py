"""The programs inside the charts, run as their pods run them, on a real S3 server and a real executor."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest
from minio import Minio

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus, State
from tests.rstar.conftest import s3  # noqa: F401 - a fixture
from tests.support.paths import ROOT
from tests.support.rpc.servicers import ScriptedExecutor, running

FILES = ROOT / "charts" / "rstar" / "files"


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program's text, as the command of its pod does."""
    command = [sys.executable, "-c", (FILES / program).read_text().strip(), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=200
    )


def test_the_bucket_is_made_once(s3: dict[str, str]) -> None:  # noqa: F811
    for _ in range(2):
        done = run("make_bucket.py", "made-by-the-job", **s3)
        assert (done.returncode, done.stdout) == (0, "bucket made-by-the-job is there\n"), done.stderr
    client = Minio(
        s3["RSTAR_S3_ENDPOINT"].removeprefix("http://"),
        access_key=s3["AWS_ACCESS_KEY_ID"],
        secret_key=s3["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )
    assert client.bucket_exists("made-by-the-job")


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an executor that runs as a process of its own."""
    ready = tmp_path_factory.mktemp("executor") / "ready"
    command = [sys.executable, "-m", "rstar_executor", "--slots", "1", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail("the executor does not start")
            time.sleep(0.05)
        yield ready.read_text()
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--isolated",), 1)])
def test_the_check_tells_when_the_cluster_enforces_no_policies(
    executor: str, flags: tuple[str, ...], code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as api:
        port = api.getsockname()[1]
        done = check(executor, port, *flags)
    assert done.returncode == code
    assert done.stdout.startswith(f"the executor at {executor} runs programs\nits programs cannot reach the network\n")
    assert f"this pod reached 127.0.0.1:{port}" in (done.stderr if code else done.stdout)


def test_the_check_is_content_when_nobody_reaches_anything(executor: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = check(executor, closed.getsockname()[1], "--isolated")
    assert done.returncode == 0, done.stderr
    assert "neither can coordinators" in done.stdout


async def test_the_check_fails_where_a_program_reaches_the_network() -> None:
    class Open:
        async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
            said = ["connected" if "socket" in candidate else "24" for candidate in candidates]
            return [Execution(ExecutionStatus.OK, text) for text in said]

    async with running(ScriptedExecutor(model=Open())) as server:
        done = await asyncio.to_thread(check, server.address, 1)
    assert done.returncode == 1
    assert "a program reached 127.0.0.1:1 from the executor" in done.stderr


def check(executor: str, port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    return run(
        "check_executor.py",
        executor,
        *flags,
        KUBERNETES_SERVICE_HOST="127.0.0.1",
        KUBERNETES_SERVICE_PORT=str(port),
    )

"""The programs inside the charts, run with the commands of their pods against a real S3 server and a real executor."""

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
    """Run the text of a program with ``python -c``, as its pod does."""
    command = [sys.executable, "-c", (FILES / program).read_text().strip(), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=200
    )


def test_the_bucket_job_creates_the_bucket_and_accepts_an_existing_one(s3: dict[str, str]) -> None:  # noqa: F811
    for _ in range(2):
        finished = run("make_bucket.py", "made-by-the-job", **s3)
        assert (finished.returncode, finished.stdout) == (0, "bucket made-by-the-job is there\n"), finished.stderr
    client = Minio(
        s3["RSTAR_S3_ENDPOINT"].removeprefix("http://"),
        access_key=s3["AWS_ACCESS_KEY_ID"],
        secret_key=s3["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )
    assert client.bucket_exists("made-by-the-job")


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an executor in a separate process."""
    ready = tmp_path_factory.mktemp("executor") / "ready"
    command = [sys.executable, "-m", "rstar_executor", "--slots", "1", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the executor does not start")
            time.sleep(0.05)
        yield ready.read_text()
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--isolated",), 1)])
def test_the_check_reports_a_cluster_without_enforced_network_policies(
    executor: str, flags: tuple[str, ...], code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as api:
        port = api.getsockname()[1]
        finished = check(executor, port, *flags)
    assert finished.returncode == code
    assert finished.stdout.startswith(
        f"the executor at {executor} runs programs\nits programs cannot reach the network\n"
    )
    assert f"this pod reached 127.0.0.1:{port}" in (finished.stderr if code else finished.stdout)


def test_the_check_passes_when_neither_programs_nor_pods_reach_the_network(executor: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        finished = check(executor, closed.getsockname()[1], "--isolated")
    assert finished.returncode == 0, finished.stderr
    assert "neither can coordinators" in finished.stdout


async def test_the_check_fails_when_a_program_reaches_the_network() -> None:
    class ExecutorWithoutIsolation:
        async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
            outputs = ["connected" if "socket" in candidate else "24" for candidate in candidates]
            return [Execution(ExecutionStatus.OK, text) for text in outputs]

    async with running(ScriptedExecutor(model=ExecutorWithoutIsolation())) as server:
        finished = await asyncio.to_thread(check, server.address, 1)
    assert finished.returncode == 1
    assert "a program reached 127.0.0.1:1 from the executor" in finished.stderr


def check(executor: str, port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    return run(
        "check_executor.py",
        executor,
        *flags,
        KUBERNETES_SERVICE_HOST="127.0.0.1",
        KUBERNETES_SERVICE_PORT=str(port),
    )

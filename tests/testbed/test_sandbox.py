"""A sandboxed command sees a container and leaves nothing behind; its probes are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from rstar_testbed.kubelet import sandbox
from rstar_testbed.kubelet.probes import ask
from rstar_testbed.kubelet.sandbox import CANNOT_START, Sandbox

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs mounts: run as root")


def _start(
    folder: Path, script: str, mounts: list[tuple[str, str, bool]] | None = None, read_only: bool = False
) -> subprocess.Popen[str]:
    (folder / "scratch").mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"]}
    whole = Sandbox(["bash", "-c", script], environment, "/", "pod-x", str(folder / "scratch"), mounts or [], read_only)
    whole.write(folder / "sandbox.json")
    command = [sys.executable, "-I", sandbox.__file__, str(folder / "sandbox.json"), str(os.getpid())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _run(
    folder: Path, script: str, mounts: list[tuple[str, str, bool]] | None = None, read_only: bool = False
) -> tuple[int, str]:
    with _start(folder, script, mounts, read_only) as process:
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@needs_root
def test_volumes_are_where_the_container_wants_them_and_nowhere_on_the_machine(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("content")
    (tmp_path / "message").touch()
    before = Path("/proc/self/mountinfo").read_text()
    places = ["/etc/made-for-a-test", "/var/run/secrets/made-for-a-test", "/made-for-a-test"]
    mounts = [(str(tmp_path / "volume"), place, True) for place in places]
    mounts.append((str(tmp_path / "message"), "/dev/termination-log", False))
    script = (
        f"cat {'/file '.join(places)}/file; echo -n said > /dev/termination-log; touch {places[0]}/new || true; exit 7"
    )
    code, output = _run(tmp_path, script, mounts)
    assert code == 7
    assert output.startswith("content" * 3)
    assert "Read-only file system" in output
    assert (tmp_path / "message").read_text() == "said"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not any(Path(place).exists() for place in places)


@needs_root
def test_what_it_writes_elsewhere_vanishes_or_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "machine"
    target.mkdir()
    assert _run(tmp_path, f"echo written > {target}/file && cat {target}/file") == (0, "written\n")
    assert list(target.iterdir()) == []
    assert "Read-only file system" in _run(tmp_path, f"touch {target}/file", read_only=True)[1]


@needs_root
def test_it_is_process_one_of_a_host_of_its_own(tmp_path: Path) -> None:
    assert _run(tmp_path, "echo $$ $(hostname) $(ls /proc | grep -c '^[0-9]') $(test -c /dev/null && echo null)")[
        1
    ].startswith("1 pod-x")


@needs_root
def test_a_signal_is_passed_on_and_its_children_die_with_it(tmp_path: Path) -> None:
    mark = f"{tmp_path.name}-child"
    with _start(
        tmp_path,
        f"exec -a {mark} sleep 1000 & trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.1; done",
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "bye\n"
        assert process.wait(timeout=60) == 3
    until = time.monotonic() + 60
    while mark in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < until
        time.sleep(0.05)


@needs_root
def test_a_command_that_does_not_exist_is_told_in_its_output(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    whole = Sandbox(["no-such-program"], {"PATH": "/bin"}, "/", "pod", str(tmp_path / "scratch"), [], False)
    whole.write(tmp_path / "sandbox.json")
    command = [sys.executable, "-I", sandbox.__file__, str(tmp_path / "sandbox.json"), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == CANNOT_START
    assert "the container cannot start" in done.stderr


async def test_grpc_readiness_is_what_the_health_service_says() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    probe = {"grpc": {"port": port}, "timeoutSeconds": 10}
    try:
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert not await ask(probe, {}, "127.0.0.1")
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await ask(probe, {}, "127.0.0.1")
        assert not await ask({"grpc": {"port": port, "service": "unknown"}, "timeoutSeconds": 10}, {}, "127.0.0.1")
        assert await ask(
            {"tcpSocket": {"port": "grpc"}}, {"ports": [{"name": "grpc", "containerPort": port}]}, "127.0.0.1"
        )
    finally:
        server.stop(0)
    assert not await ask(probe, {}, "127.0.0.1")

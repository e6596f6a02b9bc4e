"""Ports of components are free, and two processes never get the same one."""

from __future__ import annotations

import random
import socket
import subprocess
import sys

import pytest
from rstar_testbed.processes import free_port

RESERVE = "import sys; from rstar_testbed.processes import free_port; print(free_port(), flush=True); sys.stdin.read()"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_in_use_or_reserved_by_another_process_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", RESERVE]
    with (
        socket.socket() as listener,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        listener.bind(("127.0.0.1", 0))
        assert other.stdout
        reserved, free = int(other.stdout.readline()), unused_port()
        choices = iter([listener.getsockname()[1], reserved, free])
        monkeypatch.setattr(random, "choice", lambda _: next(choices))
        assert free_port() == free
        other.communicate()

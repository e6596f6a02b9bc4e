"""Rounds whose services and stages are ``programs.py``, and the real drivers that run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rstar.local.children import ProcessIdentity
from rstar.local.lock import driver_pid
from tests.support.local.commands import PROGRAMS
from tests.support.paths import ROOT


class Bench:
    """A store, a control folder, and a file of rounds r1, r2, ...; as a context it ends what was started on them."""

    def __init__(self, folder: Path) -> None:
        self.store, self.control, self.file = folder / "store", folder / "control", folder / "rounds.yaml"
        self.control.mkdir()
        self.base = folder / "base"
        self.base.mkdir()
        (self.base / "config.json").write_text("{}")
        self.problems = folder / "problems.jsonl"
        self.problems.write_text('{"question": "1+1?", "answer": "2"}\n')
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill drivers and commands; services and stages end with their driver."""
        for process in self._processes:
            process.kill()
            process.communicate()
        if pid := driver_pid(self.store / ".rstar"):
            os.kill(int(pid), signal.SIGKILL)  # It was started in the background.

    def rounds(self, count: int = 1, *, evaluates: bool = False, **lifecycle: int) -> None:
        """Write the file of rounds."""
        documents = []
        for number in range(1, count + 1):
            spec: dict[str, Any] = {
                "round": number,
                "baseModel": str(self.base),
                "problems": {"uri": str(self.problems)},
                "lifecycle": {"backoffSeconds": 0, **lifecycle},
            }
            if evaluates:
                methods = [{"name": "greedy", "method": "greedy"}]
                spec["evaluate"] = {"problems": {"uri": str(self.problems)}, "methods": methods}
            if number > 1:
                spec["previousRound"] = f"r{number - 1}"
            kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
            documents.append({**kind, "metadata": {"name": f"r{number}"}, "spec": spec})
        self.file.write_text(yaml.safe_dump_all(documents))

    def evolution(self, count: int, **stop_when: float) -> None:
        """Write the file of an evolution ``e``; its rounds all have the same coverage."""
        template = {
            "baseModel": str(self.base),
            "problems": {"uri": str(self.problems)},
            "lifecycle": {"backoffSeconds": 0},
            "evaluate": {
                "problems": {"uri": str(self.problems)},
                "methods": [{"name": "greedy", "method": "greedy"}],
                "overlap": "allow",
            },
        }
        spec = {"rounds": count, "template": template, "stopWhen": stop_when}
        kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution"}
        self.file.write_text(yaml.safe_dump({**kind, "metadata": {"name": "e"}, "spec": spec}))

    def script(self, stage: str, *behaviours: str) -> None:
        """Set the behaviours of the next attempts of ``stage`` (see ``programs.py``)."""
        (self.control / stage).write_text("\n".join(behaviours))

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command, which is killed when the bench is left."""
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment)
        )
        self._processes.append(process)
        return process

    def driver(self) -> subprocess.Popen[str]:
        """Start a driver of the file."""
        command = [sys.executable, str(PROGRAMS), "drive", str(self.file), str(self.store)]
        return self.start([*command, "--control", str(self.control)], {**os.environ, "PYTHONPATH": str(ROOT)})

    def run(self) -> dict[str, Any]:
        """Run a driver to its end and return its result."""
        out, err = self.driver().communicate(timeout=60)
        assert out, err
        result: dict[str, Any] = json.loads(out)
        return result

    def records(self, name: str) -> list[list[str]]:
        """Return the lines of a file in the control folder, as words."""
        path = self.control / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def started(self) -> list[tuple[str, str]]:
        """Return (round, stage) of every attempt that was started, in order."""
        return [(record[0], record[1]) for record in self.records("started")]

    def processes_run(self) -> bool:
        """Return whether any stage or service still runs."""
        pids = [record[2] for record in self.records("started")] + [record[1] for record in self.records("services")]
        return any(ProcessIdentity.of(int(pid)) for pid in pids)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``, for at most two minutes."""
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until, "the condition did not hold within two minutes"
        time.sleep(0.02)

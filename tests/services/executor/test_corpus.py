"""Every hostile program, in three settings: its status is right, the next program is unaffected, nothing is left behind.

The settings are this user, an ordinary user and a simulated restricted container (``restricted``). A canary follows each
program (``canary``), and after each category the machine is inspected from outside (``leftovers``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.executor import leftovers
from tests.support.executor.hostile import CATEGORIES, CORPUS, HostileProgram, programs
from tests.support.executor.restricted import obstacle
from tests.support.paths import ROOT

SECRET = Path("/tmp/rstar-corpus-secret")
"""A secret file of the service, at a path that the corpus knows and with a mode that lets every user read it."""

ANSWER_SECONDS = 150.0
SNAPSHOT_MIB = {"this user": 0, "ordinary": 128, "container": 0}
"""With snapshots, processes of finished programs may stay until the executor ends."""


class Driver:
    """The child process with the executors (``hostile_driver``)."""

    def __init__(self, setting: str, scratch: Path) -> None:
        self.scratch = scratch
        through = () if setting == "this user" else (sys.executable, "-m", "tests.support.executor.restricted", setting)
        environment = {**os.environ, "TMPDIR": str(scratch), "RSTAR_CORPUS_SECRET": "hunter2", "HOME": "/nonexistent"}
        self._process = subprocess.Popen(
            [*through, sys.executable, "-B", "-m", "tests.support.executor.hostile_driver", str(SNAPSHOT_MIB[setting])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        self.pid = self._process.pid
        assert self._answer() == "ready"
        self.before = leftovers.look(self.pid, scratch)
        if SNAPSHOT_MIB[setting]:
            self.before = leftovers.Found(sys.maxsize, sys.maxsize, self.before.names)

    def attack(self, category: str) -> list[dict[str, Any]]:
        """Run the programs of ``category``; return their results."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{category}\n")
        self._process.stdin.flush()
        results: list[dict[str, Any]] = self._answer()
        return results

    def left_behind(self) -> str:
        """Return what is on the machine and was not there before."""
        return leftovers.left_behind(self.pid, self.scratch, self.before)

    def end(self) -> int:
        """End the process; return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> Any:
        """Read one line; a driver that does not answer in time is killed, and the result is ``no answer``."""
        assert self._process.stdout is not None
        timeout = threading.Timer(ANSWER_SECONDS, self._process.kill)
        timeout.start()
        try:
            return json.loads(self._process.stdout.readline() or '"no answer"')
        finally:
            timeout.cancel()


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=() if each == "this user" else pytest.mark.slow) for each in SNAPSHOT_MIB],
)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    setting = request.param
    if setting != "this user" and (reason := obstacle(setting)):
        pytest.skip(reason)
    SECRET.mkdir(exist_ok=True)
    (SECRET / "token").write_text("hunter2")
    for path in (SECRET, SECRET / "token"):
        path.chmod(0o755)
    scratch = Path(tempfile.mkdtemp(prefix="rstar-corpus-scratch-"))
    scratch.chmod(0o777)
    try:
        driver = Driver(setting, scratch)
        yield driver
        assert driver.end() == 0
        driver.before = leftovers.NOTHING
        assert driver.left_behind() == ""
    finally:
        for folder in (scratch, SECRET):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("category", CATEGORIES)
def test_hostile_programs_are_contained_and_do_not_affect_the_next(category: str, driver: Driver) -> None:
    expected = {program.name: program for program in programs(category)}
    results = driver.attack(category)
    assert {result["name"] for result in results} == set(expected)
    found = [fault for result in results for fault in faults(expected[result["name"]], result)]
    assert not found, "\n".join(found)
    assert driver.left_behind() == ""


def faults(program: HostileProgram, result: dict[str, Any]) -> Iterator[str]:
    """Describe each difference between ``result`` and what must hold."""
    if result["status"] not in program.expected:
        yield f"{program.name}: {result['status']} ({result['reason']}), expected {' or '.join(sorted(program.expected))}"
    if program.stdout is not None and result["stdout"] != program.stdout:
        yield f"{program.name}: printed {result['stdout'][:500]!r}, expected {program.stdout!r}"
    for was, now in result["changed"]:
        lines = zip(was.splitlines(), now.splitlines(), strict=False)
        changed = next(((old, new) for old, new in lines if old != new), (was, now))
        yield f"{program.name}: the next program found {changed[1][:300]!r} in place of {changed[0][:300]!r}"


def test_the_corpus_covers_every_category_and_states_what_must_hold_for_each_program() -> None:
    assert sorted(CATEGORIES) == sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    counts = {category: len(programs(category)) for category in CATEGORIES}
    assert min(counts.values()) >= 8, counts
    assert sum(counts.values()) >= 130, counts
    for category in CATEGORIES:
        for program in programs(category):
            assert program.text.startswith("# "), program.name
            assert program.limits.seconds <= 10, program.name

"""Every hostile program, in three settings: it has a right status, the next program is unaffected, nothing stays behind.

The settings are this user, an ordinary user and what stands for a restricted container (``restricted``). A canary
follows each program (``canary``), and after each category the machine is looked at from outside (``leftovers``).
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

SECRET = Path("/tmp/rstar-corpus-secret")
"""A file as a service may have it, at a place that the corpus knows; all may read it."""

ANSWER_SECONDS = 150.0
RESTING_MIB = {"this user": 0, "ordinary": 128, "container": 0}
"""Where programs rest after their end, their processes are meant to be there until the executor ends."""
ROOT = Path(__file__).absolute().parents[2]


class Driver:
    """The child that holds the executors."""

    def __init__(self, setting: str, scratch: Path) -> None:
        self.scratch = scratch
        through = () if setting == "this user" else (sys.executable, "-m", "tests.support.executor.restricted", setting)
        environment = {**os.environ, "TMPDIR": str(scratch), "RSTAR_CORPUS_SECRET": "hunter2", "HOME": "/nonexistent"}
        self._process = subprocess.Popen(
            [*through, sys.executable, "-B", "-m", "tests.support.executor.hostile_driver", str(RESTING_MIB[setting])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        self.pid = self._process.pid
        assert self._answer() == "ready"
        self.before = leftovers.look(self.pid, scratch)
        if RESTING_MIB[setting]:
            self.before = leftovers.Found(sys.maxsize, sys.maxsize, self.before.names)

    def attack(self, category: str) -> list[dict[str, Any]]:
        """Run the programs of ``category``; return what came of each."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{category}\n")
        self._process.stdin.flush()
        results: list[dict[str, Any]] = self._answer()
        return results

    def left_behind(self) -> str:
        """Say what is on the machine that was not there before."""
        return leftovers.left_behind(self.pid, self.scratch, self.before)

    def end(self) -> int:
        """End it; return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> Any:
        """Read one line; a driver that does not answer is killed, and the line is no answer then."""
        assert self._process.stdout is not None
        impatience = threading.Timer(ANSWER_SECONDS, self._process.kill)
        impatience.start()
        try:
            return json.loads(self._process.stdout.readline() or '"no answer"')
        finally:
            impatience.cancel()


@pytest.fixture(scope="module", params=RESTING_MIB)
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
def test_hostile_programs_are_contained_and_change_nothing_for_the_next(category: str, driver: Driver) -> None:
    expected = {program.name: program for program in programs(category)}
    results = driver.attack(category)
    assert {result["name"] for result in results} == set(expected)
    found = [fault for result in results for fault in faults(expected[result["name"]], result)]
    assert not found, "\n".join(found)
    assert driver.left_behind() == ""


def faults(program: HostileProgram, result: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with ``result``."""
    if result["status"] not in program.expected:
        yield f"{program.name}: {result['status']} ({result['reason']}), expected {' or '.join(sorted(program.expected))}"
    if program.stdout is not None and result["stdout"] != program.stdout:
        yield f"{program.name}: printed {result['stdout'][:500]!r}, expected {program.stdout!r}"
    for was, now in result["changed"]:
        lines = zip(was.splitlines(), now.splitlines(), strict=False)
        changed = next(((old, new) for old, new in lines if old != new), (was, now))
        yield f"{program.name}: the next program found {changed[1][:300]!r} in place of {changed[0][:300]!r}"


def test_the_corpus_covers_every_category_and_says_of_each_program_what_must_hold() -> None:
    assert sorted(CATEGORIES) == sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    counts = {category: len(programs(category)) for category in CATEGORIES}
    assert min(counts.values()) >= 8, counts
    assert sum(counts.values()) >= 130, counts
    for category in CATEGORIES:
        for program in programs(category):
            assert program.text.startswith("# "), program.name
            assert program.limits.seconds <= 10, program.name

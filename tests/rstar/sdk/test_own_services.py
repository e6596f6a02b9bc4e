"""``Solver.from_checkpoints`` with real services and tiny models: none of their processes outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rstar import ServicesError, Solver
from tests.support.local.bench import eventually
from tests.support.tiny_model import save_policy, save_ppm

PROGRAM = """
import sys, time
import psutil
from rstar import Solver
with Solver.from_checkpoints(sys.argv[1], sys.argv[2], device="cpu") as solver:
    for child in psutil.Process().children(recursive=True):
        print(child.pid, child.create_time(), flush=True)
    print("ready", flush=True)
    solver.solve("1+1?", rollouts=100_000, max_new_tokens=400, max_depth=2)
"""


def services_of_this_process() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [one for one in found if "rstar_" in " ".join(one.cmdline())]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return save_policy("llama", folder / "policy"), save_ppm("llama", folder / "ppm")


@pytest.mark.slow
def test_checkpoints_are_served_for_one_solver_and_nothing_is_left(checkpoints: tuple[Path, Path]) -> None:
    before = set(services_of_this_process())
    with Solver.from_checkpoints(*checkpoints, device="cpu") as solver:
        found = solver.solve("What is 1 + 1?", rollouts=2, candidates=2, max_new_tokens=16, max_depth=2, expected=2)
        assert found.tokens > 0
        assert (found.answer is None) == (found.verdict is None)
        assert found.record.policy_digest
        started = set(services_of_this_process()) - before
        assert len(started) >= 3
    assert not [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_services_end_with_a_program_however_it_ends(checkpoints: tuple[Path, Path], number: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, checkpoints)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert program.stdout is not None
        children = []
        while (line := program.stdout.readline().strip()) != "ready":
            assert line, program.communicate()[1]
            children.append(line.split())
        assert len(children) >= 3
        program.send_signal(number)
        _, err = program.communicate(timeout=60)
    finally:
        program.kill()
    if number is signal.SIGINT:
        assert "KeyboardInterrupt" in err

    def runs(pid: str, created: str) -> bool:
        try:
            one = psutil.Process(int(pid))
            return str(one.create_time()) == created and one.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    eventually(lambda: not any(runs(*child) for child in children))


@pytest.mark.slow
def test_a_service_that_cannot_start_is_an_error_with_the_sentence_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = set(services_of_this_process())
    with pytest.raises(ServicesError, match="the policy service did not start"):
        Solver.from_checkpoints(tmp_path, device="cpu").open()
    assert set(services_of_this_process()) == before

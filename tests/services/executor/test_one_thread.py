"""No fork is made of a process with threads: the executor says which module starts them and does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rstar_executor.interpreter.one_thread import ENVIRONMENT
from rstar_executor.server import import_check, local_executor
from rstar_executor.server.import_check import threads_started
from rstar_executor.server.local_executor import LocalExecutor, UnsafeError
from rstar_executor.server.programs import PRELOADED, Kind
from rstar_executor.server.warden_client import WardenFailedError

from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS, Run
from tests.support.executor.processes import entries
from tests.support.states import HEAVY, START

STARTS_THREADS = """
import os, threading, time
if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that programs see, with one that starts a thread."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "threaded.py").write_text(STARTS_THREADS)
    monkeypatch.syspath_prepend(str(folder))
    return folder


async def test_a_warm_root_with_a_second_thread_refuses_to_start_and_leaves_nothing(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(PRELOADED, Kind.LIGHT, (*PRELOADED[Kind.LIGHT], "threaded"))
    with pytest.raises(WardenFailedError, match="importing threaded starts 1 thread"):
        await LocalExecutor(slots=2).start()
    assert entries(tmp_path) == [modules]


async def test_a_library_with_threads_is_found_at_the_start_though_its_zygote_loads_later(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_executor, "NATIVE", ("not_installed_here", "threaded"))
    with pytest.raises(UnsafeError, match="importing threaded starts 1 thread"):
        await LocalExecutor(slots=1).start()


async def test_a_zygote_that_loads_later_and_has_a_thread_runs_no_program_and_says_why(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRELOADED, Kind.HEAVY, ("threaded",))
    async with LocalExecutor(slots=1, cache_mib=0) as executor:
        refused, light = await executor.execute(START, [f"{HEAVY}print(1)", "print(2)"], LIMITS)
    assert refused.status == S.INTERNAL
    assert refused.reason.startswith("importing threaded starts 1 thread")
    assert (light.status, light.stdout) == (S.OK, "2\n")


def test_a_library_that_cannot_be_imported_at_all_is_named_once(modules: Path) -> None:
    (modules / "fatal.py").write_text("import os\nos.abort()")
    assert "imports fatal ends with code -6" in threads_started(("fatal",))
    assert threads_started(import_check.NATIVE) == ""


@pytest.mark.parametrize("command", [("rstar_executor", "--port", "0"), ("rstar.cli.main", "executor", "doctor")])
def test_a_service_and_the_doctor_refuse_with_one_sentence(command: tuple[str, ...], modules: Path) -> None:
    (modules / "flint.py").write_text(STARTS_THREADS)
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "rstar: importing flint starts 1 thread(s)" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_the_environment_of_a_program_is_the_thread_limits_for_libraries_in_c_too(run: Run) -> None:
    (execution,) = await run(
        "import ctypes, os\ngetenv = ctypes.CDLL(None).getenv\ngetenv.restype = ctypes.c_char_p\n"
        "print({name: getenv(name.encode()).decode() for name in os.environ} == dict(os.environ), sorted(os.environ), os.cpu_count())"
    )
    assert execution.stdout == f"True {sorted(ENVIRONMENT)} 1\n"

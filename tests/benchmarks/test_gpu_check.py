"""The checks for a machine with a GPU: how they are run, and all but the longest of them in small on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_check.__main__ import CHECKS, table
from benchmarks.gpu_check.packages import NAMES
from benchmarks.gpu_check.runner import Check, Outcome, Setting, run_checks
from tests.support.jobs.stage_workspace import FAST
from tests.support.paths import ROOT

SAMPLES = "tests.support.checks"


def outcomes(folder: Path, *names: str, seconds: float = 600, limit: float = 60) -> list[Outcome]:
    checks = [Check(name, f"{SAMPLES}:{name}", limit) for name in names]
    return list(run_checks(checks, Setting("cpu", True, folder), seconds))


def gpu_check(*arguments: str, timeout: int = 230) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *arguments],
        cwd=ROOT,
        env={**os.environ, **FAST, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def states(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {check["name"]: check["state"] for check in json.loads(finished.stdout)["checks"]}


def test_a_check_that_fails_or_ends_its_process_does_not_end_the_others(tmp_path: Path) -> None:
    failed, ended, skipped, passed = outcomes(tmp_path, "fails", "ends", "skips", "passes")
    assert (failed.state, failed.reason) == ("failed", "ValueError: two and two are five")
    assert (ended.state, ended.reason[:39]) == ("failed", "its process ended without a result; sta")
    assert (skipped.state, skipped.reason) == ("skipped", "not on this machine")
    assert (passed.state, passed.figures) == ("passed", {"figure": 1.5, "device": "cpu"})
    assert passed.peak_gib


def test_a_check_that_hangs_is_killed_with_the_processes_that_it_started(tmp_path: Path) -> None:
    hung, passed = [
        *outcomes(tmp_path, "hangs", limit=2),
        *outcomes(tmp_path, "passes"),
    ]
    assert (hung.state, hung.reason, passed.state) == ("failed", "it did not end within 2 s", "passed")
    pid = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{pid}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_a_check_without_its_packages_or_without_time_is_skipped_and_says_why(tmp_path: Path) -> None:
    setting = Setting("cpu", True, tmp_path)
    lacking = Check("lacking", f"{SAMPLES}:passes", 60, ("json", "no_such_package"))
    [missing] = run_checks([lacking], setting, 600)
    [undeclared] = run_checks([Check("undeclared", "no_such_package.checks:one", 60)], setting, 600)
    [broken] = run_checks([Check("broken", f"{SAMPLES}.absent:one", 60)], setting, 600)
    [late] = outcomes(tmp_path, "passes", seconds=0)
    assert (missing.state, missing.reason) == ("skipped", "not installed: no_such_package")
    assert (undeclared.state, undeclared.reason) == ("skipped", "not installed: no_such_package")
    assert (broken.state, "tests.support.checks.absent" in broken.reason) == ("failed", True)
    assert (late.state, late.reason) == ("skipped", "the 0 s of all checks together are over")


def test_without_a_gpu_the_command_says_so_in_one_sentence() -> None:
    finished = gpu_check()
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("gpu-check: there is no CUDA GPU that torch can use here")
    assert finished.stderr.count("\n") == 1


@pytest.mark.slow
def test_engines_and_sharded_training_pass_in_small_on_the_cpu() -> None:
    wanted = ("policy engine, bfloat16", "PPM engine, float32 against the CPU", "SFT, FSDP with one process")
    finished = gpu_check(
        "--device", "cpu", "--quick", "--json", *(word for name in wanted for word in ("--only", name))
    )
    assert (finished.returncode, states(finished)) == (0, dict.fromkeys(wanted, "passed")), finished.stderr


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_check_passes_in_small_on_the_cpu() -> None:
    finished = gpu_check("--device", "cpu", "--quick", "--json", timeout=880)
    assert finished.returncode == 0, finished.stderr
    found = states(finished)
    assert len(found) == len(CHECKS)
    assert [name for name, state in found.items() if state != "passed"] in ([], ["SFT, gradient checkpointing"])


@pytest.mark.slow
def test_the_checks_need_no_other_packages_than_they_name() -> None:
    """Import their modules where every other requirement of the project is hidden."""
    named = {name for check in CHECKS for name in check.needs}
    hidden = {"grpc", "google", "pyarrow", "minio", "math_verify", "datasets", "kubernetes", "kopf"}
    for needs in {check.needs for check in CHECKS}:
        modules = sorted({check.function.partition(":")[0] for check in CHECKS if check.needs == needs})
        absent = hidden | {name for name in named if name not in needs}
        finished = subprocess.run(
            [sys.executable, "-c", IMPORT_WITHOUT, ",".join(sorted(absent)), *modules],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr


IMPORT_WITHOUT = """
import importlib, sys
sys.modules |= dict.fromkeys(sys.argv[1].split(","))
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def test_the_packages_that_travel_are_those_that_the_checks_name() -> None:
    named = {name.replace("_", "-") for check in CHECKS for name in check.needs}
    assert named <= set(NAMES)


def test_the_table_has_a_line_per_check_with_its_figures_or_the_reason() -> None:
    lines = table(
        [
            Outcome("one", "passed", 3.25, 1.5, {"tokens_per_s": 12_345.6, "texts": 3}),
            Outcome("another", "skipped", reason="not installed: pydantic"),
        ]
    ).splitlines()
    assert lines[1] == "one      passed       3.2      1.50  tokens_per_s 12,346, texts 3"
    assert lines[2] == "another  skipped      0.0            not installed: pydantic"

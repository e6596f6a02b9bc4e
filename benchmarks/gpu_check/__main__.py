"""The command: ``python -m benchmarks.gpu_check [--json] [--only NAME]``; see ``--help``.

Only the standard library is imported here, so that the command can say what is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from benchmarks.gpu_check.packages import FOLDER, add_paths, make_packages
from benchmarks.gpu_check.runner import Check, Outcome, Setting, run_checks

SECONDS: Final = 470.0
"""Of all checks together; the rest of eight minutes is for the start and the table."""

ENGINE: Final = ("structlog", "prometheus_client")
HOW_TO_ADD: Final = (
    f"copy the folder {FOLDER} to this checkout; on a machine with a network this makes it: "
    f"python -m benchmarks.gpu_check --packages-for {sys.version_info.major}.{sys.version_info.minor}"
)
PRELOAD: Final = ("transformers", "benchmarks.gpu_check.training")
TRAINING: Final = (*ENGINE, "pydantic", "accelerate")

CHECKS: Final = (
    Check("bfloat16 arithmetic", "benchmarks.gpu_check.engines:arithmetic", 30, ENGINE),
    Check("policy engine, float32 against the CPU", "benchmarks.gpu_check.engines:policy_float32", 40, ENGINE),
    Check("policy engine, bfloat16", "benchmarks.gpu_check.engines:policy_bfloat16", 60, ENGINE),
    Check("PPM engine, float32 against the CPU", "benchmarks.gpu_check.engines:ppm_float32", 40, ENGINE),
    Check("PPM engine, bfloat16", "benchmarks.gpu_check.engines:ppm_bfloat16", 60, ENGINE),
    Check("executor", "benchmarks.gpu_check.programs:executor", 60, ENGINE),
    Check("SFT, bfloat16", "benchmarks.gpu_check.training:sft_bfloat16", 60, TRAINING),
    Check("SFT, gradient checkpointing", "benchmarks.gpu_check.training:sft_checkpointing", 60, TRAINING),
    Check("SFT, FSDP with one process", "benchmarks.gpu_check.training:sft_fsdp", 60, TRAINING),
    Check("PPM training, bfloat16", "benchmarks.gpu_check.training:ppm_training_bfloat16", 60, TRAINING),
    Check("Game of 24, ten times as large", "benchmarks.gpu_check.game24:one_round", 240, TRAINING),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; return 0, 1 when one failed, 2 when there is nothing to run them on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where the models run")
    parser.add_argument("--quick", action="store_true", help="in small: tests the checks themselves")
    parser.add_argument(
        "--only", metavar="TEXT", action="append", default=[], help="checks whose name has TEXT; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument(
        "--packages-for",
        metavar="VERSION",
        help=f"do not check: put the small packages that a machine with Python VERSION may lack into {FOLDER}",
    )
    options = parser.parse_args(arguments)
    if options.packages_for:
        return make_packages(options.packages_for)
    add_paths()
    checks = [check for check in CHECKS if not options.only or any(text in check.name for text in options.only)]
    if reason := "no check has such a name" if not checks else _unfit(options.device):
        print(f"gpu-check: {reason}", file=sys.stderr)
        return 2
    # The limits are those of a GPU. A CPU, which is there to test the checks, may be as slow as it is.
    patience = 1 if options.device == "cuda" else 10
    checks = [replace(check, seconds=check.seconds * patience) for check in checks]
    with tempfile.TemporaryDirectory(prefix="rstar-gpu-check-") as folder:
        setting = Setting(options.device, options.quick, Path(folder))
        outcomes = []
        for outcome in run_checks(checks, setting, SECONDS * patience, PRELOAD):
            outcomes.append(outcome)
            print(f"{outcome.state:8}{outcome.name}", file=sys.stderr, flush=True)
    print(json.dumps({"checks": [asdict(outcome) for outcome in outcomes]}) if options.json else table(outcomes))
    if any(outcome.reason.startswith("not installed") for outcome in outcomes):
        print(f"gpu-check: without a network, {HOW_TO_ADD}", file=sys.stderr)
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _unfit(device: str) -> str:
    """Return why nothing can be checked on this machine; '' when it can."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} must be installed: pip install {' '.join(missing)}"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return (
                "there is no CUDA GPU that torch can use here; --device cpu --quick runs the checks in small on the CPU"
            )
    return ""


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a line per check, with its figures or the reason."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = [f"{'check':{width}}  {'result':8}{'seconds':>8}{'peak GiB':>10}  figures"]
    for outcome in outcomes:
        peak = "" if outcome.peak_gib is None else f"{outcome.peak_gib:.2f}"
        figures = outcome.reason or ", ".join(f"{key} {_text(value)}" for key, value in outcome.figures.items())
        lines.append(f"{outcome.name:{width}}  {outcome.state:8}{outcome.seconds:8.1f}{peak:>10}  {figures}")
    return "\n".join(lines)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())

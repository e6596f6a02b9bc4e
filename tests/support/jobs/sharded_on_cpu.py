"""Runs a training stage whose FSDP shards on CPUs, and prints each process's memory: ``python sharded_on_cpu.py STAGE ...``.

accelerate ignores FSDP on CPUs and copies the model into every process instead. Here its state says GPUs, and everything
else is as it is there: the same FSDP2, on gloo.

Output, one line per process and point: ``RANK POINT MIB``, the peak of resident memory since the point before.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import DistributedType, PartialState
from rstar_jobs import checkpoints, training
from rstar_jobs.program import run
from torch.distributed.tensor import DTensor

from rstar.rounds.observed import Stage


def report(point: str) -> None:
    """Print the peak of resident memory since the last report, and begin a new one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"{os.environ['RANK']} {point} {int(status['VmHWM'].split()[0]) / 1024:.0f}\n", end="", flush=True)
    Path("/proc/self/clear_refs").write_text("5")


def main() -> int:
    """Run the stage and return its exit code."""
    start_state, load, begin = PartialState.__init__, checkpoints.load, training._Callback.on_train_begin

    def pretend(self: PartialState, *arguments: Any, **options: Any) -> None:
        start_state(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    def reporting_load(*arguments: Any, **options: Any) -> Any:
        report("start")
        loaded = load(*arguments, **options)
        report("loaded")
        return loaded

    def reporting_begin(self: Any, *arguments: Any, **options: Any) -> None:
        report("sharded")
        assert all(isinstance(weight, DTensor) for weight in options["model"].parameters())
        begin(self, *arguments, **options)

    PartialState.__init__ = pretend  # type: ignore[method-assign]
    checkpoints.load = reporting_load
    training._Callback.on_train_begin = reporting_begin  # type: ignore[method-assign]
    stage = sys.argv[1]
    return run(Stage(stage.replace("_", "-")), importlib.import_module(f"rstar_jobs.{stage}").work, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

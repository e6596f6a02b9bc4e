"""The command lines of services and stages on this machine: the same programs as in a cluster's pods.

A driver takes its commands as a parameter, so that a test runs real but small programs. The module
refuses to start anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from rstar.rounds.observed import ServiceKind, ServiceRef, Stage, StartStage
from rstar.rounds.spec import EvolutionRoundSpec, TrainingSpec

_SLOTS_OPTION: Final = {
    ServiceKind.POLICY: "--max-rows",
    ServiceKind.PPM: "--max-rows",
    ServiceKind.EXECUTOR: "--slots",
    ServiceKind.SEARCH: "--max-searches",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, and what its environment adds to ours."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StageFiles:
    """The files of one attempt."""

    round: Path
    result: Path
    progress: Path


class Commands(Protocol):
    """How services and stages are started."""

    def service(
        self, ref: ServiceRef, port: int, ready_file: Path, upstream: Mapping[ServiceKind, Sequence[str]]
    ) -> Launch:
        """Return the command of one replica; ``port`` 0: any. ``upstream``: addresses of the services it calls."""
        ...

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        """Return the command of one attempt; ``search``: addresses of the coordinators."""
        ...


class PlatformCommands:
    """The platform's own services and stage programs, sharing this machine's cores."""

    def __init__(self, store: str, cores: int | None = None) -> None:
        """Use the store at URI ``store``; ``cores`` unset: all that this process may use."""
        self._store = store
        self._cores = cores or len(os.sched_getaffinity(0))

    def service(
        self, ref: ServiceRef, port: int, ready_file: Path, upstream: Mapping[ServiceKind, Sequence[str]]
    ) -> Launch:
        """``python -m rstar_KIND ...``: a model gets half of the cores, the rest one thread.

        Executor, search and the other model need the other half: with all cores each a small policy was 17 % slower.
        """
        options = ["--host", "127.0.0.1", "--port", str(port), "--ready-file", str(ready_file)]
        if ref.model is not None:
            options += ["--model", ref.model.uri, "--store", self._store]
        if ref.prompt is not None:
            options += ["--prompt", ref.prompt]
        slots = ref.slots
        if ref.kind is ServiceKind.EXECUTOR and slots is None:
            slots = max(1, self._cores // ref.replicas)
        if slots is not None:
            options += [_SLOTS_OPTION[ref.kind], str(slots)]
        for kind, addresses in upstream.items():
            for address in addresses:
                options += [f"--{kind}", address]
        threads = max(1, self._cores // 2 // ref.replicas) if ref.model is not None else 1
        return Launch((sys.executable, "-m", f"rstar_{ref.kind}", *options), threads_environment(threads))

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        """``python -m rstar_jobs.STAGE ...``; training through torchrun, as a PyTorchJob's pod does."""
        module = f"rstar_jobs.{start.stage.value.replace('-', '_')}"
        options = ["--round", str(files.round), "--store", self._store]
        for name, ref in start.inputs:
            options += ["--input", f"{name}={ref.key}@{ref.digest}"]
        options += ["--result", str(files.result), "--progress", str(files.progress)]
        if search:
            options += ["--search", ",".join(search)]
        training = _training(spec, start.stage)
        if training is None:
            return Launch((sys.executable, "-m", module, *options), threads_environment(1))
        processes = training.processes_per_node
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m")
        threads = max(1, self._cores // processes)
        return Launch((sys.executable, *torchrun, module, *options), threads_environment(threads))


def threads_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process with so many compute threads; what the user has set stays.

    Threads that wait must sleep: spinning ones take the cores from the other services (about a factor of five
    on two shared cores).
    """
    wanted = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _training(spec: EvolutionRoundSpec, stage: Stage) -> TrainingSpec | None:
    return {Stage.TRAIN_POLICY: spec.train_policy, Stage.TRAIN_PPM: spec.train_ppm}.get(stage)

"""The command lines of services and stages on this machine: the same programs as in a cluster's pods.

The driver takes its commands as a parameter, so that tests can run small programs in their place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rstar.local.devices import gpu_environment
from rstar.rounds.observed import ServiceKind, ServiceRef, StartStage
from rstar.rounds.programs import ServicePlace, StagePlace, service_arguments, stage_arguments, training_settings
from rstar.rounds.spec import EvolutionRoundSpec


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, and the variables that it adds to the driver's environment."""

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
        """Return the command of one replica. ``port`` 0: any free one; ``upstream``: addresses of the services it calls."""
        ...

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        """Return the command of one attempt; ``search``: addresses of the coordinators."""
        ...


class PlatformCommands:
    """The platform's own services and stage programs, sharing this machine's cores and GPUs."""

    def __init__(self, store: str, cores: int | None = None, gpus: Sequence[str] = ()) -> None:
        """Use the store at URI ``store``; ``cores`` unset: all that this process may use; ``gpus``: those for training."""
        self._store = store
        self._gpus = gpus
        self._cores = cores or len(os.sched_getaffinity(0))

    def service(
        self, ref: ServiceRef, port: int, ready_file: Path, upstream: Mapping[ServiceKind, Sequence[str]]
    ) -> Launch:
        """``python -m rstar_KIND ...``: a model server gets all cores, any other service one thread.

        Policy and PPM are busy in turns, and a small model leaves half of the cores free by itself (``load_pretrained``).
        """
        if ref.kind is ServiceKind.EXECUTOR and ref.slots is None:
            ref = replace(ref, slots=max(1, self._cores // ref.replicas))
        key = ref.endpoint.key_variable if ref.endpoint is not None else None
        place = ServicePlace("127.0.0.1", port, self._store, ready_file=str(ready_file), key_variable=key)
        targets = [(kind, address) for kind, addresses in upstream.items() for address in addresses]
        threads = max(1, self._cores // ref.replicas) if ref.model is not None else 1
        return Launch((sys.executable, *service_arguments(ref, place, targets)), threads_environment(threads))

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        """``python -m rstar_jobs.STAGE ...``; training with all cores, and through torchrun if it has several processes.

        A training process has one GPU, where there are any. torchrun would only add its own start, some seconds, to a single process.
        """
        place = StagePlace(str(files.round), self._store, str(files.result), str(files.progress), search=tuple(search))
        training = training_settings(spec, start.stage)
        processes = training.processes_per_node if training is not None else self._cores
        threads = max(1, self._cores // processes)
        launched = processes if training is not None and processes > 1 else None
        arguments = stage_arguments(start, place, processes=launched)
        gpus = self._gpus[:processes] if training is not None else ()
        return Launch((sys.executable, *arguments), threads_environment(threads) | gpu_environment(gpus))


def threads_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process with so many compute threads; variables that the user has set stay.

    Waiting threads must sleep: spinning ones take the cores from the other services (about a factor of five
    on two shared cores).
    """
    defaults = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
    return {name: value for name, value in defaults.items() if name not in os.environ}

"""Which GPUs of this machine each process may use.

Without a choice every model server and every training would take the first GPU. The driver loads no torch (seconds, and a
CUDA context of its own), so it asks the environment, ``nvidia-smi`` or the driver's folder in ``/proc``.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rstar.rounds.observed import Stage
from rstar.rounds.programs import training_settings
from rstar.rounds.spec import EvolutionRound

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
"""CUDA shows a process only the devices that this variable names."""

NO_GPU: Final = ("-1",)
"""The names of the GPUs for processes that must use the CPU."""

_PROC: Final = Path("/proc/driver/nvidia/gpus")
_QUERY: Final = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
_QUERY_SECONDS: Final = 30.0


def visible_gpus(
    environment: Mapping[str, str] | None = None, query: Sequence[str] = _QUERY, proc: Path = _PROC
) -> tuple[str, ...]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them; () without GPUs.

    ``environment``: this process's by default; ``query``: a command that prints one GPU's number per line.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE)
    if given is not None:
        return named_gpus(given)
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True).stdout
        return tuple(line.strip() for line in listed.splitlines() if line.strip().isdigit())
    except (OSError, subprocess.SubprocessError):
        pass  # containers may have the driver without its tools
    try:
        return tuple(str(number) for number, _ in enumerate(proc.iterdir()))
    except OSError:
        return ()


def named_gpus(value: str) -> tuple[str, ...]:
    """Return the names in a value of ``CUDA_VISIBLE_DEVICES``. As in CUDA, nothing counts from an empty name or -1 on."""
    names: list[str] = []
    for name in map(str.strip, value.split(",")):
        if not name or name.startswith("-"):
            break
        names.append(name)
    return tuple(names)


def least_used(gpus: Sequence[str], used: Iterable[str], count: int) -> tuple[str, ...]:
    """Return ``count`` of ``gpus`` (all, if there are fewer): those that occur least in ``used``, earlier ones first.

    For one process after the other this goes round the GPUs, and a process that is started again gets a free one.
    """
    uses = Counter(used)
    chosen = sorted(range(len(gpus)), key=lambda i: (uses[gpus[i]], i))[:count]
    return tuple(gpus[i] for i in sorted(chosen))


def gpu_environment(gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of a process that uses ``gpus`` only; nothing on a machine without GPUs."""
    return {VARIABLE: ",".join(gpus)} if gpus else {}


def gpu_faults(rounds: Iterable[EvolutionRound], gpus: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each setting that needs more GPUs than there are. Without GPUs models run on the CPU."""
    for item in rounds if gpus else ():
        services = item.spec.services
        wanted = {
            "services.policy.tensorParallel": services.policy.tensor_parallel,
            "services.ppm.tensorParallel": services.ppm.tensor_parallel,
        }
        for key, stage in (("trainPolicy", Stage.TRAIN_POLICY), ("trainPpm", Stage.TRAIN_PPM)):
            if (training := training_settings(item.spec, stage)) is not None:
                wanted[f"{key}.processesPerNode"] = training.processes_per_node
        for name, number in wanted.items():
            if number > len(gpus):
                yield f"round {item.name}: {name} is {number}, but {len(gpus)} GPUs are visible here: use at most {len(gpus)}"

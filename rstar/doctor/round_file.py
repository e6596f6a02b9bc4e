"""Checks of one YAML file of rounds against this machine: its inputs, its memory, its GPUs, its engines."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rstar.distribution import extra
from rstar.doctor.finding import Check, Finding, check, size
from rstar.hub import commit_of
from rstar.hub_name import HubKind, read_hub_name
from rstar.local.devices import gpu_faults, visible_gpus
from rstar.models.free_memory import free_host_bytes
from rstar.rounds.estimate.assumptions import assumed_for
from rstar.rounds.estimate.base_model import find_config
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.processes import ProcessEstimate, processes
from rstar.rounds.load import SpecError, load_rounds
from rstar.rounds.spec import EvolutionRound
from rstar.store.revisions import is_on_hub
from rstar.store.store import Store

if TYPE_CHECKING:
    from rstar.rounds.estimate.model_size import ModelSize

HUB_SECONDS: Final = 120.0
FILE_SECONDS: Final = 600.0
"""Every row of the problem files is read."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """``rounds``: names; ``faults``: sentences of what is wrong with the file or its inputs."""

    file: str
    rounds: tuple[str, ...]
    faults: tuple[str, ...]


def judge_file(facts: FileFacts) -> Finding:
    """As ``rstar run`` checks a file before it starts anything."""
    if facts.faults:
        more = f" (and {len(facts.faults) - 1} more)" if len(facts.faults) > 1 else ""
        remedy = "mend the file or its inputs: 'rstar run' lists all faults and starts nothing before"
        return Finding("file", "failed", f"{facts.faults[0]}{more}", remedy)
    return Finding("file", "ok", f"{', '.join(facts.rounds)}: the file and its inputs here are well formed")


def judge_hub(missing: Mapping[str, str]) -> Finding:
    """``missing``: the hub's or the cache's own sentence by name, of those that neither has."""
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        remedy = "correct the name, set HF_TOKEN, or reach the hub once: later runs take its local cache"
        return Finding("hub", "failed", f"{next(iter(missing.values()))}{more}", remedy)
    return Finding("hub", "ok", "the hub, or its local cache, has every hf: name of the file")


def judge_engines(missing: Mapping[str, str]) -> Finding:
    """``missing``: the engine by service, of those whose library is not installed."""
    if missing:
        text = ", ".join(f"services.{service}.engine is {engine}" for service, engine in missing.items())
        engine = next(iter(missing.values()))
        needed = extra(engine if engine == "vllm" else "jobs")
        return Finding(
            "engines", "failed", f"{text}, which is not installed", f"{needed} (vLLM: in an environment of its own)"
        )
    return Finding("engines", "ok", "the engines of the model services are installed")


@dataclass(frozen=True, slots=True)
class RoundMemory:
    """What a round needs at once, in bytes: all of its servers, and the processes of its largest training.

    ``unknown``: why no estimate is possible, '' if it is. ``longest``: the training with every sequence at ``maxLength``.
    """

    name: str
    servers: float = 0.0
    training: float = 0.0
    longest: float = 0.0
    unknown: str = ""

    @property
    def most(self) -> float:
        """The larger of the two: models are served or trained, one after the other."""
        return max(self.servers, self.training)


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """``free``: bytes of this machine, or where it has GPUs of all of them."""

    rounds: tuple[RoundMemory, ...]
    free: int
    where: str = "this machine"


def judge_needs(facts: MemoryNeeds) -> Finding:
    """Compare the estimate of ``rstar plan`` with what is free."""
    name, known = "memory of the rounds", [one for one in facts.rounds if not one.unknown]
    if not known:
        return Finding(name, "skipped", facts.rounds[0].unknown, "'rstar plan' takes the size as an option")
    worst = max(known, key=lambda one: one.most)
    text = (
        f"round {worst.name}: about {size(worst.servers)} for its servers or {size(worst.training)} for training; "
        f"{size(facts.free)} are free on {facts.where}"
    )
    remedy = "lower the concurrency, the batch (microBatchSize) or the model, or use gradientCheckpointing or lora"
    if worst.most > facts.free:
        return Finding(name, "failed", text, remedy)
    if max(worst.most * 1.25, worst.longest) > facts.free:
        return Finding(name, "warning", f"{text}: long sequences may not fit", remedy)
    return Finding(name, "ok", text)


@dataclass(frozen=True, slots=True)
class GpuNeeds:
    """``faults``: settings that need more GPUs than there are; ``wanted``: rounds whose pods would have GPUs."""

    visible: int
    faults: tuple[str, ...]
    wanted: tuple[str, ...]


def judge_gpu_needs(facts: GpuNeeds) -> Finding:
    """Without GPUs models run on the CPU, which is slow for a file that was written for GPUs."""
    name = "gpus of the rounds"
    if facts.faults:
        return Finding(
            name, "failed", facts.faults[0].partition(": use")[0], "use a machine with more GPUs, or lower that setting"
        )
    if facts.wanted and not facts.visible:
        text = (
            f"no GPU is here, and {', '.join(facts.wanted)} have GPUs in cluster.resources: models will run on the CPU"
        )
        return Finding(name, "warning", text, "use a machine with a GPU, or expect a slow round")
    return Finding(name, "ok", f"{facts.visible} GPUs are visible; the rounds need no more")


def file_checks(file: Path, rounds: Sequence[EvolutionRound], store: Store | None) -> list[Check]:
    """Return the checks of the parsed ``rounds`` of ``file``. ``store``: None where it does not exist."""
    names = hub_names(rounds)
    return [
        check("file", lambda: file_facts(file, rounds, store), judge_file, FILE_SECONDS),
        *([check("hub", lambda: missing_on_hub(names), judge_hub, HUB_SECONDS)] if names else []),
        check("engines", lambda: missing_engines(rounds), judge_engines),
        check("memory of the rounds", lambda: memory_needs(rounds, store), judge_needs),
        check("gpus of the rounds", lambda: gpu_needs(rounds), judge_gpu_needs),
    ]


def file_facts(file: Path, rounds: Sequence[EvolutionRound], store: Store | None) -> FileFacts:
    """Read the inputs of all rounds. A previous round of another file is taken to exist."""
    numbers = {item.spec.previous_round: item.spec.round - 1 for item in rounds if item.spec.previous_round}
    names = tuple(item.name for item in rounds)
    try:
        load_rounds(file, store, numbers.get)
    except SpecError as error:
        return FileFacts(str(file), names, tuple(error.faults))
    absent = [
        uri
        for item in rounds
        for uri in (item.spec.base_model, *(source.uri for source in item.spec.problems.sources()))
        if uri.startswith("store:") and store is None
    ]
    faults = [
        f"{uri} is in a store that does not exist: give --store, or make it and put the file there" for uri in absent
    ]
    return FileFacts(str(file), names, tuple(dict.fromkeys(faults)))


def hub_names(rounds: Sequence[EvolutionRound]) -> dict[str, HubKind]:
    """Return the ``hf:`` names of all rounds and their kinds."""
    found: dict[str, HubKind] = {}
    for item in rounds:
        spec, other, ppm = item.spec, item.spec.rollout.policy, item.spec.preference_model.model
        models = [spec.base_model, other.model if other is not None else None, ppm.uri if ppm is not None else None]
        found |= dict.fromkeys((uri for uri in models if uri is not None and is_on_hub(uri, "model")), "model")
        for problems in (spec.problems, spec.evaluate.problems):
            sources = problems.sources() if problems is not None else ()
            found |= dict.fromkeys((one.uri for one in sources if is_on_hub(one.uri, "dataset")), "dataset")
    return found


def missing_on_hub(names: Mapping[str, HubKind]) -> dict[str, str]:
    """Ask for the commit of each name, as a round does first; nothing is downloaded."""
    missing = {}
    for uri, kind in names.items():
        try:
            commit_of(read_hub_name(uri, kind), kind)
        except ValueError as error:
            missing[uri] = str(error)
    return missing


def missing_engines(rounds: Sequence[EvolutionRound]) -> dict[str, str]:
    """Return the engine by service, of those whose library is not installed."""
    found = {}
    for item in rounds:
        for service in ("policy", "ppm"):
            engine = getattr(item.spec.services, service).engine
            if importlib.util.find_spec(engine) is None:
                found[service] = engine
    return found


def gpu_needs(rounds: Sequence[EvolutionRound]) -> GpuNeeds:
    """Compare the rounds with the GPUs that this process may use."""
    gpus = visible_gpus()
    wanted = []
    for item in rounds:
        resources = item.spec.cluster.resources
        if any(getattr(resources, part).gpus for part in ("policy", "ppm", "train_policy", "train_ppm")):
            wanted.append(item.name)
    return GpuNeeds(len(gpus), tuple(gpu_faults(rounds, gpus)), tuple(wanted))


def memory_needs(rounds: Sequence[EvolutionRound], store: Store | None) -> MemoryNeeds:
    """Estimate the memory of all rounds. GPUs are compared by what ``nvidia-smi`` says is free on all of them."""
    from rstar.doctor.gpu_memory import free_gpu_bytes

    on_gpus = free_gpu_bytes()
    estimates = tuple(round_memory(item, store) for item in rounds)
    if on_gpus:
        return MemoryNeeds(estimates, on_gpus, "its GPUs")
    return MemoryNeeds(estimates, free_host_bytes())


def round_memory(item: EvolutionRound, store: Store | None) -> RoundMemory:
    """Estimate one round; its texts are those of its problems' format."""
    spec = item.spec
    models: dict[str, ModelSize | None] = {}
    other, ppm = spec.rollout.policy, spec.preference_model.model
    uris = {"model": spec.base_model}
    uris |= {"searching": other.model} if other is not None and other.model is not None else {}
    uris |= {"scoring": ppm.uri} if ppm is not None else {}
    for role, uri in uris.items():
        try:
            models[role] = find_config(uri, store)
        except (ValueError, OSError) as error:
            return RoundMemory(item.name, unknown=f"the size of {uri} is unknown: {error}")
        if models[role] is None:
            return RoundMemory(item.name, unknown=f"the size of {uri} is unknown: its files are not here")
    base = models["model"]
    assert base is not None
    assumptions = assumed_for(spec.problems.sources()[0].format)
    # The numbers of problems change times, and no memory.
    planned = PlannedRound(item.name, spec, base, assumptions, 1, 1, models.get("searching"), models.get("scoring"))
    return needed_at_once(item.name, processes(planned))


def needed_at_once(name: str, estimates: Sequence[ProcessEstimate]) -> RoundMemory:
    """Return the memory of all servers together, and of the processes of the largest training. Pure."""
    training = [one for one in estimates if one.longest is not None]
    servers = sum(one.count * one.memory.total for one in estimates if one.longest is None)
    largest = max((one.count * one.memory.total for one in training), default=0.0)
    longest = max((one.count * one.longest.total for one in training if one.longest is not None), default=0.0)
    return RoundMemory(name, servers, largest, longest)

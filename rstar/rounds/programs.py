"""The one table of programs: module, port and options of every service and stage, and how a stage's result is read.

The laptop driver and the operator start the same programs. Both build their command lines here and add only what
belongs to their place: cores and threads of this machine, or volumes, probes and environment of a pod.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rstar.rounds.observed import (
    BAD_INPUT,
    ManifestRef,
    ModelServing,
    ServiceKind,
    ServiceRef,
    Stage,
    StageOutput,
    StartStage,
)
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.training_spec import TrainingSpec

_DIGEST_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class ServiceProgram:
    """A service: its module, its gRPC port in a cluster, and the option that takes ``ServiceRef.slots``."""

    module: str
    port: int
    slots_option: str


SERVICE_PROGRAMS: Final[Mapping[ServiceKind, ServiceProgram]] = {
    ServiceKind.POLICY: ServiceProgram("rstar_policy", 50_051, "--max-rows"),
    ServiceKind.PPM: ServiceProgram("rstar_ppm", 50_052, "--max-rows"),
    ServiceKind.EXECUTOR: ServiceProgram("rstar_executor", 50_053, "--slots"),
    ServiceKind.SEARCH: ServiceProgram("rstar_search", 50_054, "--max-searches"),
}

STAGE_MODULES: Final[Mapping[Stage, str]] = {
    Stage.ROLLOUT: "rstar_jobs.rollout",
    Stage.SELECT: "rstar_jobs.select",
    Stage.TRAIN_POLICY: "rstar_jobs.train_policy",
    Stage.TRAIN_PPM: "rstar_jobs.train_ppm",
    Stage.EVALUATE: "rstar_jobs.evaluate",
}


def training_settings(spec: EvolutionRoundSpec, stage: Stage) -> TrainingSpec | None:
    """Return the settings of a stage that trains, or None. Stages that train run under torchrun."""
    match stage:
        case Stage.TRAIN_POLICY:
            return spec.train_policy
        case Stage.TRAIN_PPM if spec.trains_ppm:
            return spec.train_ppm
        case _:
            return None


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """Where one replica listens and keeps its files. ``tenant``: the name under which it calls shared executors.

    ``health_port``: where it serves its health without TLS. ``key_variable``: the environment variable with the key of
    the endpoint that it calls.
    """

    host: str
    port: int
    store: str
    cache: str | None = None
    ready_file: str | None = None
    metrics_port: int | None = None
    health_port: int | None = None
    tenant: str | None = None
    key_variable: str | None = None


def service_arguments(
    ref: ServiceRef, place: ServicePlace, upstream: Iterable[tuple[ServiceKind, str]] = ()
) -> list[str]:
    """Return Python's arguments for one replica of ``ref``; ``upstream``: gRPC targets of the services it calls."""
    program = SERVICE_PROGRAMS[ref.kind]
    arguments = ["-m", program.module, "--host", place.host, "--port", str(place.port)]
    if place.ready_file is not None:
        arguments += ["--ready-file", place.ready_file]
    if place.metrics_port is not None:
        arguments += ["--metrics-port", str(place.metrics_port)]
    if place.health_port is not None:
        arguments += ["--health-port", str(place.health_port)]
    if ref.model is not None:
        arguments += ["--model", ref.model.uri]
        arguments += ["--round", ref.model.round_name] if ref.model.round_name else []
    if reads_store(ref):
        arguments += ["--store", place.store]
        arguments += ["--cache", place.cache] if place.cache is not None else []
    if ref.endpoint is not None:
        arguments += ["--endpoint", ref.endpoint.url, "--model-name", ref.endpoint.name]
        arguments += ["--tokenizer", ref.endpoint.tokenizer] if ref.endpoint.tokenizer is not None else []
        arguments += ["--round", ref.endpoint.round_name] if ref.endpoint.round_name else []
        arguments += ["--api-key-env", place.key_variable] if place.key_variable is not None else []
    if ref.prompt is not None:
        arguments += ["--prompt", ref.prompt]
    if ref.prompt_file is not None:
        arguments += ["--prompt-file", ref.prompt_file]
    if ref.convention is not None:
        arguments += ["--convention", ref.convention]
    arguments += _serving_arguments(ref.serving)
    if ref.slots is not None:
        arguments += [program.slots_option, str(ref.slots)]
    if ref.call_seconds is not None:
        arguments += ["--call-seconds", f"{ref.call_seconds:g}"]
    if ref.kind is ServiceKind.SEARCH and place.tenant is not None:
        arguments += ["--tenant", place.tenant]
    for kind, target in upstream:
        arguments += [f"--{kind}", target]
    return arguments


def reads_store(ref: ServiceRef) -> bool:
    """Return whether a service reads files of the store: a model, a prompt, or the tokenizer of an endpoint."""
    tokenizer = ref.endpoint.tokenizer if ref.endpoint is not None else None
    return ref.model is not None or ref.prompt_file is not None or tokenizer is not None


def _serving_arguments(serving: ModelServing) -> list[str]:
    """Return the options of a model server that differ from its defaults."""
    default = ModelServing()
    options = {
        "--engine": (serving.engine, default.engine),
        "--dtype": (serving.dtype, default.dtype),
        "--tensor-parallel": (serving.tensor_parallel, default.tensor_parallel),
        "--memory-share": (serving.memory_share, default.memory_share),
    }
    return [text for name, (value, usual) in options.items() if value != usual for text in (name, str(value))]


@dataclass(frozen=True, slots=True)
class StagePlace:
    """Where a stage program reads and reports. ``search``: gRPC targets of the coordinators."""

    round: str
    store: str
    result: str
    progress: str
    cache: str | None = None
    search: tuple[str, ...] = ()


def stage_arguments(start: StartStage, place: StagePlace, *, processes: int | None = None, nodes: int = 1) -> list[str]:
    """Return Python's arguments for one attempt of a stage.

    ``processes``: per node, under torchrun; None: a plain program. With several ``nodes`` torchrun reads from its
    environment (PET_*, which the training operator sets) how they find each other.
    """
    arguments: list[str] = []
    if processes is not None:
        arguments += ["-m", "torch.distributed.run"]
        arguments += ["--standalone", "--nproc-per-node", str(processes)] if nodes == 1 else []
    arguments += ["-m", STAGE_MODULES[start.stage], "--round", place.round, "--store", place.store]
    if place.cache is not None:
        arguments += ["--cache", place.cache]
    for name, ref in start.inputs:
        arguments += ["--input", input_argument(name, ref)]
    arguments += ["--result", place.result, "--progress", place.progress]
    if place.search:
        arguments += ["--search", ",".join(place.search)]
    return arguments


def input_argument(name: str, ref: ManifestRef) -> str:
    """Return the value of ``--input``: ``NAME=KEY@DIGEST``."""
    return f"{name}={ref.key}@{ref.digest}"


def read_input_argument(text: str) -> tuple[str, ManifestRef]:
    """Return what ``input_argument`` wrote. Raises ``ValueError``."""
    name, equals, rest = text.partition("=")
    key, at, digest = rest.rpartition("@")
    if not (name and equals and key and at and len(digest) == _DIGEST_LENGTH):
        raise ValueError(f"--input {text!r} is not NAME=KEY@DIGEST with a sha256 in hex")
    return name, ManifestRef(key, digest)


NO_MANIFEST: Final = "it exited with code 0 but left no manifest"
"""The reason of an attempt that failed although its program succeeded."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """How a stage program ended.

    ``output``: the manifest and the metrics that it reported; None when it failed or named no manifest.
    ``error``: its own sentence of why it failed, '' when it wrote none.
    """

    exit_code: int
    output: StageOutput | None = None
    error: str = ""


def read_result(exit_code: int, result: str | bytes) -> StageResult:
    """Return how a stage program ended, from its exit code and its result file (a pod's termination message).

    Anything but a JSON object is an empty result: a killed program leaves none, and the kubelet puts the last lines
    of the log there instead.
    """
    content = json_object(result)
    if exit_code == 0:
        return StageResult(0, output=_output(content))
    # torchrun exits with 1 whatever its program's exit code was: the result has the program's own.
    refused = content.get("exit_code") == BAD_INPUT
    return StageResult(BAD_INPUT if refused else exit_code, error=str(content.get("error") or ""))


def _output(content: Mapping[str, Any]) -> StageOutput | None:
    key, digest, metrics = content.get("manifest"), content.get("digest"), content.get("metrics")
    code = content.get("code_version")
    if not (isinstance(key, str) and isinstance(digest, str) and len(digest) == _DIGEST_LENGTH):
        return None
    return StageOutput(
        ManifestRef(key, digest), metrics if isinstance(metrics, dict) else {}, code if isinstance(code, str) else ""
    )


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in ``text``; {} when it is none."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

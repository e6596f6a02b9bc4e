"""The command-line options that services share: those of every server, and those of the two model servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from rstar.models.model_folder import DeviceName, EngineName, Precision

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")]
MetricsPort = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port of the Prometheus metrics; unset: none.")
]
HealthPort = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Port of the gRPC health alone, without TLS, for probes; unset: none."),
]
ReadyFile = Annotated[Path | None, typer.Option(help="File that gets host:port once the service is ready.")]
DrainSeconds = Annotated[float, typer.Option(min=0, help="How long calls in progress may still take after SIGTERM.")]

Model = Annotated[str, typer.Option(help="Checkpoint: a local folder, hf:ORG/NAME@REVISION, or store:PREFIX.")]
Store = Annotated[str | None, typer.Option(help="Store of store: models: a folder or s3://BUCKET/PREFIX.")]
Round = Annotated[
    str | None, typer.Option(help="Round of the store that fixes the commit of an hf: model; unset: its current one.")
]
Cache = Annotated[Path, typer.Option(help="Folder for fetched checkpoints.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of torch; unset: OMP_NUM_THREADS or one per core, half for a model below 20 million parameters.",
    ),
]
Device = Annotated[DeviceName, typer.Option(help="Where the model runs; auto takes a GPU if there is one.")]
Dtype = Annotated[Precision, typer.Option(help="Precision of the model; auto: the checkpoint's, float32 on CPU.")]

EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="Library that runs the model; vllm needs the extra vllm.")
]
TensorParallel = Annotated[int, typer.Option(min=1, help="Devices that share the model (engine vllm).")]
PrefixShare = Annotated[
    float,
    typer.Option(
        min=0, max=0.9, help="Share of the free memory for keys and values of earlier texts (engine transformers)."
    ),
]

MemoryShare = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.99,
        help="Share of a GPU's memory for weights and key-value cache (engine vllm); on a CPU, of the free memory for the cache. Unset: 0.9, on a CPU 0.1.",
    ),
]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_DRAIN_SECONDS: Final = 30.0
DEFAULT_CACHE: Final = Path(".rstar/cache")


def check_engine_options(
    engine: EngineName, tensor_parallel: int, memory_share: float | None, adapter: str | None = None
) -> None:
    """Raise ``ValueError`` with one sentence for an option of the engine vllm beside another engine."""
    given = {"--tensor-parallel": tensor_parallel > 1, "--memory-share": memory_share is not None, "--adapter": adapter}
    if engine != "vllm" and any(given.values()):
        raise ValueError(f"{next(name for name, value in given.items() if value)} needs --engine vllm")

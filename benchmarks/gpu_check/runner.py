"""Runs checks one after the other, each in a process of its own with a time limit; none can end or slow the others.

A check is a function of a ``Setting`` that returns figures, or raises. Its process is the leader of a session, so that a
check which hangs is killed together with the processes it started. What it prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal

Figures = Mapping[str, float | str]
State = Literal["passed", "failed", "skipped"]

START_SECONDS: Final = 90.0
"""Limit of the imports of a check where there is a GPU: 5 to 30 s, and they do not count against its own limit."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a check runs on. ``quick``: in small, to test the check itself. ``folder``: for models that checks share."""

    device: Literal["cuda", "cpu"]
    quick: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class Check:
    """A check: ``function`` is ``module:name``; ``seconds`` its limit.

    ``needs``: the packages beyond torch and transformers without which it cannot run; it is skipped when one is missing.
    """

    name: str
    function: str
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check. ``reason``: why it failed or was skipped; ``peak_gib``: of the GPU, or of the process."""

    name: str
    state: State
    seconds: float = 0.0
    peak_gib: float | None = None
    figures: Figures = field(default_factory=dict)
    reason: str = ""


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised by a check that cannot run here; the text is the reason."""


def run_checks(
    checks: Sequence[Check], setting: Setting, seconds: float, preload: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Yield the outcome of each check, in order, within ``seconds`` altogether; what does not begin in time is skipped.

    ``preload``: modules that the processes of all checks share where there is no GPU.
    """
    # A process that was forked after CUDA was asked for cannot use it.
    context: Any = multiprocessing.get_context("spawn" if setting.device == "cuda" else "forkserver")
    if setting.device == "cpu":
        context.set_forkserver_preload([*preload])
    end = time.monotonic() + seconds
    for check in checks:
        if missing := [name for name in check.needs if importlib.util.find_spec(name) is None]:
            yield Outcome(check.name, "skipped", reason=f"not installed: {', '.join(missing)}")
        elif (left := end - time.monotonic()) <= 0:
            yield Outcome(check.name, "skipped", reason=f"the {seconds:g} s of all checks together are over")
        else:
            yield _run(context, check, setting, left)


def _run(context: Any, check: Check, setting: Setting, left: float) -> Outcome:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(check.function, setting, theirs), name=check.name)
    began = time.monotonic()
    process.start()
    theirs.close()
    try:
        limit = min(START_SECONDS, left) if setting.device == "cuda" else left
        state, seconds, peak, content = _receive(ours, limit, f"it was not loaded within {limit:.0f} s")
        if state == "loaded":
            limit = min(check.seconds, max(left - (time.monotonic() - began), 1.0))
            state, seconds, peak, content = _receive(ours, limit, f"it did not end within {limit:.0f} s")
    finally:
        _kill(process)
    if isinstance(content, str):
        return Outcome(check.name, state, seconds, peak, reason=content)
    return Outcome(check.name, state, seconds, peak, content)


def _receive(connection: Connection, seconds: float, late: str) -> tuple[Any, float, float | None, Any]:
    """Return (state, seconds, peak memory, figures or reason) as the child sent it."""
    began = time.monotonic()
    try:
        if connection.poll(seconds):
            message: tuple[Any, float, float | None, Any] = connection.recv()
            return message
    except EOFError:
        late = "its process ended without a result; standard error has its last words"
    return "failed", time.monotonic() - began, None, late


def _kill(process: Any) -> None:
    """End a check's process and all that it started, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _child(function: str, setting: Setting, connection: Connection) -> None:
    os.setsid()
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    if setting.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    module, _, name = function.partition(":")
    try:
        check: Callable[[Setting], Figures] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and importlib.util.find_spec(package) is None:
            connection.send(("skipped", 0.0, None, f"not installed: {package}"))
        else:
            connection.send(("failed", 0.0, None, f"{type(error).__name__}: {error}"))
        return
    connection.send(("loaded", 0.0, None, ""))
    began = time.monotonic()
    content: Figures | str
    try:
        state, content = "passed", check(setting)
    except Skipped as skipped:
        state, content = "skipped", str(skipped)
    except BaseException as error:
        traceback.print_exc()
        state, content = "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    connection.send((state, time.monotonic() - began, peak_gib(setting), content))
    connection.close()
    os._exit(0)  # threads of engines and libraries must not delay the next check


def peak_gib(setting: Setting) -> float:
    """Return the most memory that this process has held: of the GPU by torch's allocator, else its resident set."""
    if setting.device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

"""``rstar executor ...``: runs programs in a fresh executor (``run``) and shows its sandbox on this machine (``doctor``).

Starts fast: the executor is imported only when a command runs.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, NoReturn

import typer

from rstar.interfaces import ExecutionLimits

if TYPE_CHECKING:
    from rstar.interfaces import Execution
    from rstar_executor.sandbox import Layer
    from rstar_executor.server.solver_checks import Check

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Run programs in an executor, or check the layers that contain them.\n\nExample: `rstar executor doctor`",
)

_FAILED, _BAD_INPUT, _TERMINATED = 1, 2, 143
_MOST_BYTES: Final = 4 << 20  # more than the largest program, in any encoding
_SHOWN: Final = 100
_DEFAULTS: Final = ExecutionLimits()

REMEDIES: Final = {
    "identity": "start it with fewer rights: as an ordinary user, or with every capability dropped",
    "namespaces": "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), "
    "or run it as root on a machine of its own",
    "files": "it needs namespaces and the right to mount inside them",
    "landlock": "use Linux 5.13 or later with landlock among the security modules (lsm=... on the kernel's command line), "
    "and a container engine whose seccomp profile lets landlock_restrict_self through",
    "seccomp": "install libseccomp 2.5 or later (Debian, Ubuntu: libseccomp2), on x86_64 or aarch64",
    "limits": "raise the hard limits of the shell or service that starts it",
    "cgroup": "delegate a control group, version 2 (systemd: Delegate=yes); in a container, its own limits suffice",
}
"""How to get a layer that is not in force."""


def _paths(incomplete: str) -> list[str]:
    """Return the files and folders that start with ``incomplete``, for the shell's completion."""
    folder, slash, _ = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        return []
    names = [f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in found]
    return [name for name in names if name.startswith(incomplete)]


class SourceFile(NamedTuple):
    """A program as read from ``file``: its text, or the reason why it is rejected."""

    file: str
    text: str
    rejection: str


@commands.command()
def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files with a Python program each; - reads one from standard input.",
            show_default=False,
            autocompletion=_paths,
        ),
    ],
    seconds: Annotated[float, typer.Option(min=0, help="Longest wall time of a program.")] = _DEFAULTS.seconds,
    memory_mib: Annotated[int, typer.Option(min=0, help="Most memory of a program.")] = _DEFAULTS.memory_mib,
    output_bytes: Annotated[int, typer.Option(min=0, help="Most output of a program.")] = _DEFAULTS.output_bytes,
    file_mib: Annotated[int, typer.Option(min=0, help="Largest file a program may write.")] = _DEFAULTS.file_mib,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Programs that run at once; unset: one per core.", show_default=False)
    ] = None,
    tracebacks: Annotated[
        bool, typer.Option("--tracebacks", help="Print the traceback of a failed program, as Python prints it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line per program instead of text.")] = False,
) -> None:
    """Run each FILE as the search runs a candidate program: one line of status, time and output per file, in order.

    A failing program does not make the command fail: exit code 0 means that all programs were run.

    Examples: `rstar executor run step.py --tracebacks`, `rstar executor run *.py --json --seconds 2`, `echo 'print(6*7)' | rstar executor run -`
    """
    from rstar_executor.server.local_executor import MAXIMUM
    from rstar_executor.server.programs import bounded

    try:
        limits = ExecutionLimits(seconds, memory_mib, output_bytes, file_mib)
        bounded(limits, MAXIMUM)  # refuses impossible limits before the executor starts
        programs = [_read(file) for file in files]
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}; give files that can be read", _BAD_INPUT)
    except ValueError as error:
        _fail(str(error), _BAD_INPUT)
    _run_until_signal(_run(programs, limits, slots, json=json, tracebacks=tracebacks))


@commands.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Start an executor; show each layer between programs and this machine, and whether programs of a solver run in it.

    Exit code 1 when a required layer is not in force, or when a program with numpy, sympy or scipy fails although the
    module is installed.

    Examples: `rstar executor doctor`, `rstar executor doctor --json`
    """
    _run_until_signal(_doctor(json=json))


def _read(file: str) -> SourceFile:
    if file == "-":
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with Path(file).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        return SourceFile(file, "", f"the program has more than {_MOST_BYTES} bytes")
    try:
        return SourceFile(file, data.decode("utf-8-sig"), "")
    except UnicodeDecodeError as error:
        return SourceFile(file, "", f"the program is not UTF-8: {error.reason} at byte {error.start}")


async def _run(
    programs: Sequence[SourceFile], limits: ExecutionLimits, slots: int | None, *, json: bool, tracebacks: bool
) -> None:
    from rstar.interfaces import Execution, ExecutionStatus
    from rstar_executor.server.local_executor import LocalExecutor, UnsafeError
    from rstar_executor.server.warden_client import WardenFailedError

    executor = LocalExecutor(slots, cache_mib=0)
    # Enough to keep every slot busy, and less than the executor queues.
    in_flight = asyncio.Semaphore(2 * (slots or 1))

    async def result(program: SourceFile) -> Execution:
        if program.rejection:
            return Execution(ExecutionStatus.REJECTED, reason=program.rejection)
        async with in_flight:
            (execution,) = await executor.run([program.text], limits, tracebacks=tracebacks)
        return execution

    try:
        async with executor:
            results = [asyncio.create_task(result(program)) for program in programs]
            try:
                for program, pending in zip(programs, results, strict=True):
                    _print_result(program.file, await pending, json=json)
            finally:  # not a task group: it would hide the error in a group of errors
                for pending in results:
                    pending.cancel()
    except UnsafeError as error:
        _fail(f"{error}; run 'rstar executor doctor' for the remedy", _FAILED)
    except WardenFailedError as error:
        _fail(str(error), _FAILED)


def _print_result(file: str, execution: Execution, *, json: bool) -> None:
    if json:
        import json as encoder

        row = {
            "file": file,
            "status": execution.status.value,
            "reason": execution.reason,
            "stdout": execution.stdout,
            "ms": round(execution.milliseconds, 3),
        }
        if execution.traceback:
            row["traceback"] = execution.traceback
        print(encoder.dumps(row), flush=True)
    else:
        lines = execution.stdout.splitlines()
        shown = execution.reason or (lines[0] if lines else "")
        more = f" (+{len(lines) - 1} lines)" if len(lines) > 1 and not execution.reason else ""
        text = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        line = f"{execution.status.value:<12} {execution.milliseconds:>8.1f} ms  {_plain(file)}  {_plain(text)}{more}"
        print(line.rstrip(), flush=True)
        for each in execution.traceback.splitlines():
            print(f"    {_plain(each)}", flush=True)


def _plain(text: str) -> str:
    """Return ``text`` without control characters: a program wrote it, and a terminal would obey them."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


async def _doctor(*, json: bool) -> None:
    from rstar_executor.server.local_executor import LocalExecutor, UnsafeError
    from rstar_executor.server.solver_checks import first_failure, run_checks
    from rstar_executor.server.warden_client import WardenFailedError

    executor = LocalExecutor(1, cache_mib=0)
    missing = ""
    checks: Sequence[Check] = ()
    try:
        async with executor:
            checks = await run_checks(executor)
    except UnsafeError as error:
        missing = str(error)
    except WardenFailedError as error:
        _fail(str(error), _FAILED)
    _show(executor.layers, missing, checks, json=json)
    if failure := missing or first_failure(checks):
        _fail(failure, _FAILED)


def _show(layers: Sequence[Layer], missing: str, checks: Sequence[Check], *, json: bool) -> None:
    if json:
        import json as encoder

        rows = [{**layer._asdict(), "remedy": _remedy(layer)} for layer in layers]
        ran = [check._asdict() for check in checks]
        report = {"contained": not missing, "missing": missing, "layers": rows, "checks": ran}
        print(encoder.dumps(report), flush=True)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "in force", "how, or why not", "keeps programs from")
    for layer in layers:
        state = "yes" if layer.in_force else "NO, and needed" if layer.required else "no"
        remedy = _remedy(layer)
        detail = f"{layer.detail}; {remedy}" if remedy else layer.detail
        table.add_row(layer.name, state, Text(detail), Text(layer.covers))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if not missing:
        print("programs are contained here")
    for check in checks:
        print(f"{'ok' if check.works else 'NO':<4}{_plain(check.detail)}")


def _remedy(layer: Layer) -> str:
    return "" if layer.in_force else REMEDIES.get(layer.name, "")


def _run_until_signal(work: Coroutine[None, None, None]) -> None:
    """Run ``work``; SIGTERM cancels it as Ctrl-C does, so that no process and no directory is left behind."""

    async def main() -> None:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled() or (current := asyncio.current_task()) is None or current.cancelling():
                raise  # Ctrl-C
            raise typer.Exit(_TERMINATED) from None

    asyncio.run(main())


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"rstar: {sentence}", file=sys.stderr)
    raise typer.Exit(code)

"""``rstar run FILE``: runs the rounds of one YAML file on this machine and shows their progress.

The driver (``rstar.local``) does the work; this module checks input and prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.stores import absolute_store, opened_store

if TYPE_CHECKING:
    from rstar.local.results import Report, RunResult


def run_rounds_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file with one or several EvolutionRounds.", show_default=False)
    ],
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--lines", help="Live view, or one line per event; default: live view on a terminal."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")] = False,
    redo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ROUND/]STAGE",
            help="Make a stage again, and all that follows from it: after a fix of the code, for instance; repeatable.",
        ),
    ] = None,
) -> None:
    """Run the rounds of FILE on this machine; continues where an earlier run stopped.

    The whole file is checked before any work starts. Relative paths in it start at the current folder.

    For example:

    - `rstar run rounds.yaml`
    - `rstar run rounds.yaml --store s3://lab/tiny --json > result.json`
    - `rstar run rounds.yaml --redo r2/select`

    Ctrl-C stops it: stages save their work, and the same command continues from there. A second Ctrl-C kills the stages.
    """
    from rstar.cli.result_tables import result_json, result_table
    from rstar.local.commands import PlatformCommands
    from rstar.local.devices import gpu_faults, visible_gpus
    from rstar.local.driver import round_number, run_rounds
    from rstar.local.lock import DriverRunningError
    from rstar.local.redo import parse_redo
    from rstar.local.work import work_folder
    from rstar.rounds.load import load_rounds
    from rstar.rounds.tracking import tracker_faults
    from rstar.rpc import tracing
    from rstar.store.store import StoreError

    opened = opened_store(store)
    work = work_folder(opened)
    try:
        rounds = load_rounds(file, opened, lambda name: round_number(work, name))
        redone = parse_redo(redo or (), [item.name for item in rounds])
        tracing.start("run")
    except ValueError as error:  # of the file, of --redo or of OTEL_*
        raise CommandError(str(error)) from None
    except StoreError as error:
        raise CommandError(str(error), FAILED) from None
    trackers = (fault for item in rounds for fault in tracker_faults(item.spec.trackers))
    if missing := list(dict.fromkeys(trackers)):
        raise CommandError("\n".join(missing))
    gpus = visible_gpus()
    if faults := list(gpu_faults(rounds, gpus)):
        raise CommandError("\n".join(faults))
    for sentence in _pending_requests(work, [item.name for item in rounds], store):
        typer.echo(f"rstar: {sentence}", err=True)
    with ExitStack() as stack:
        stack.callback(tracing.stop)
        report = _report(stack, [item.name for item in rounds], watch=watch, quiet=quiet, lines_to_stderr=json)
        try:
            commands = PlatformCommands(absolute_store(store), gpus=gpus)
            result = run_rounds(rounds, opened, work.absolute(), commands, report, redone, gpus)
        except DriverRunningError as error:
            raise CommandError(str(error), FAILED) from None
        except StoreError as error:
            raise CommandError(f"{error}\nrun the same command to continue", FAILED) from None
    if json:
        typer.echo(result_json(result.statuses))
    elif table := result_table(result.statuses):
        from rstar.cli.console import wide_console

        wide_console().print(table)
    _raise_unless_succeeded(result)


def _pending_requests(work: Path, names: list[str], store: str) -> Iterator[str]:
    """Yield a message for each round that was suspended or cancelled while no driver was running."""
    from rstar.local.control import Control

    for name in names:
        control = Control(work / name)
        request = control.read()
        if request.cancel:
            yield f"round {name} was cancelled; to run it again, give it another name or delete {control.path}"
        elif request.suspend:
            yield f"round {name} is suspended until 'rstar resume {name} --store {store}'"


def _report(stack: ExitStack, names: list[str], *, watch: bool | None, quiet: bool, lines_to_stderr: bool) -> Report:
    if quiet:
        return lambda _: None
    stream = sys.stderr if lines_to_stderr else sys.stdout
    if watch if watch is not None else stream.isatty():
        from rstar.cli.live_view import LiveView

        return stack.enter_context(LiveView(names, stream))
    from rstar.cli.line_report import LineReport

    return LineReport(stream)


def _raise_unless_succeeded(result: RunResult) -> None:
    if result.signal is not None:
        raise CommandError("interrupted; run the same command to continue", 128 + result.signal)
    if result.succeeded:
        return
    name, status = list(result.statuses.items())[-1]
    lines = [f"round {name}: {status.message}"]
    if status.phase == "Suspended":
        lines = [f"round {name} is suspended; set spec.suspend to false and run the same command to continue"]
    if result.log is not None:
        from rstar.local.log_tail import last_lines

        lines += [f"  {line}" for line in last_lines(result.log)]
        lines.append(f"the complete log: {result.log}")
    raise CommandError("\n".join(lines), FAILED)

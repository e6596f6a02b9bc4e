"""``rstar run FILE``: rounds on this machine, from one YAML, with a view of what happens.

The work is the driver's (``rstar.local``). This module refuses to decide anything about rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened_store

if TYPE_CHECKING:
    from rstar.local.results import Report, RunResult


def run_rounds_file(
    file: Annotated[Path, typer.Argument(help="YAML file with one or many EvolutionRounds.", show_default=False)],
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--lines", help="Live view, or one line per event; unset: as the terminal allows."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:
    """Run the rounds of FILE on this machine; goes on where an earlier run stopped.

    The whole file is checked before any work starts. Paths in it are relative to the current folder.

    Examples: `rstar run rounds.yaml`, `rstar run rounds.yaml --store s3://lab/tiny --json > result.json`

    Ctrl-C ends it in order: stages save what they have, and the same command goes on from there. A second Ctrl-C kills.
    """
    from rstar.cli.result_tables import result_json, result_table
    from rstar.local.commands import PlatformCommands
    from rstar.local.driver import round_number, run_rounds
    from rstar.local.lock import DriverRunningError
    from rstar.local.work import work_folder
    from rstar.rounds.load import SpecError, load_rounds
    from rstar.store.store import StoreError

    opened = opened_store(store)
    work = work_folder(opened)
    try:
        rounds = load_rounds(file, opened, lambda name: round_number(work, name))
    except SpecError as error:
        raise CommandError(str(error)) from None
    except StoreError as error:
        raise CommandError(str(error), FAILED) from None
    location = store if "://" in store else str(Path(store).absolute())
    for sentence in _wishes(work, [item.name for item in rounds], store):
        typer.echo(f"rstar: {sentence}", err=True)
    with ExitStack() as view:
        report = _report(view, [item.name for item in rounds], watch=watch, quiet=quiet, lines_to_stderr=json)
        try:
            result = run_rounds(rounds, opened, work.absolute(), PlatformCommands(location), report)
        except DriverRunningError as error:
            raise CommandError(str(error), FAILED) from None
        except StoreError as error:
            raise CommandError(f"{error}\nrun the same command to go on", FAILED) from None
    if json:
        typer.echo(result_json(result.statuses))
    elif table := result_table(result.statuses):
        from rstar.cli.console import wide_console

        wide_console().print(table)
    _finish(result, store)


def _wishes(work: Path, names: list[str], store: str) -> Iterator[str]:
    """Say what was asked of the rounds while nobody was at work."""
    from rstar.local.control import Control

    for name in names:
        control = Control(work / name)
        wish = control.read()
        if wish.cancel:
            yield f"round {name} was cancelled; to run it all the same, give it another name or delete {control.path}"
        elif wish.suspend:
            yield f"round {name} is suspended: it waits until 'rstar resume {name} --store {store}'"


def _report(view: ExitStack, names: list[str], *, watch: bool | None, quiet: bool, lines_to_stderr: bool) -> Report:
    if quiet:
        return lambda _: None
    stream = sys.stderr if lines_to_stderr else sys.stdout
    if watch if watch is not None else stream.isatty():
        from rstar.cli.live_view import LiveView

        return view.enter_context(LiveView(names, stream))
    from rstar.cli.lines import Lines

    return Lines(stream)


def _finish(result: RunResult, store: str) -> None:
    if result.signal is not None:
        raise CommandError("interrupted; run the same command to go on", 128 + result.signal)
    if result.succeeded:
        return
    name, status = list(result.statuses.items())[-1]
    lines = [f"round {name}: {status.message}"]
    if status.phase == "Suspended":
        lines = [f"round {name} is suspended; set spec.suspend to false and run the same command to go on"]
    if result.log is not None:
        from rstar.local.log_tail import last_lines

        lines += [f"  {line}" for line in last_lines(result.log)]
        lines.append(f"the whole log: {result.log}")
    raise CommandError("\n".join(lines), FAILED)

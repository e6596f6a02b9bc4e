"""``rstar status``: the status of the rounds of a store or a namespace.

It only reads what the driver or the operator wrote, so it never disturbs a run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, choose_location
from rstar.cli.completion import files_or_round_names
from rstar.cli.errors import INTERRUPTED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.errors import RoundsError, RoundsInputError
from rstar.locations.location import Location, find_round
from rstar.locations.rounds_files import parsed_rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

    from rstar.rounds.spec import EvolutionRound
    from rstar.rounds.status import RoundStatus

    Rounds = Sequence[EvolutionRound] | None
    """The rounds of a file, in their order; None: those that exist."""

WATCH_SECONDS: Final = 2.0
_MAX_FAILURES: Final = 15
"""Consecutive reads that may fail before a watch gives up."""


def status(
    ctx: typer.Context,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|NAME",
            help="A YAML file or the name of a round; default: all rounds.",
            show_default=False,
            autocompletion=files_or_round_names,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Update the output on every change, until all rounds shown have ended."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the status of the rounds of a store, or of a cluster's namespace.

    For example:

    - `rstar status`
    - `rstar status r2 --store runs/tiny`
    - `rstar status rounds.yaml --json`
    - `rstar status -n lab --watch`

    `--watch --json` prints one JSON object per change.
    """
    location = choose_location(ctx, store, namespace, context, kubeconfig)
    rounds = parsed_rounds([Path(which)]) if which is not None and Path(which).is_file() else None
    one = which if rounds is None else None
    if not watch:
        shown = _shown(location, one, rounds)
        _print(location, shown, rounds, json=json)
        return
    try:
        _watch(location, one, rounds, json=json)
    except KeyboardInterrupt:
        raise CommandError("", INTERRUPTED) from None


def _shown(location: Location, one: str | None, rounds: Rounds) -> dict[str, RoundStatus]:
    """Read the statuses once. Raises ``CommandError`` when there are none to show."""
    found = location.rounds()
    if one is not None:
        return {one: find_round(location, one, found)}
    if rounds is not None:
        return {item.name: found[item.name] for item in rounds if item.name in found}
    if not found:
        raise CommandError(
            f"no round has run in {location.description}; start with 'rstar submit FILE {location.options}'"
        )
    return found


def _watch(location: Location, one: str | None, rounds: Rounds, *, json: bool) -> None:
    from rich.live import Live

    from rstar.cli.console import wide_console

    live = Live(console=wide_console(), auto_refresh=False) if sys.stdout.isatty() and not json else None
    printed: dict[str, RoundStatus] | None = None
    failures = 0
    with live if live is not None else nullcontext():
        while True:
            try:
                shown = _shown(location, one, rounds)
                complete = _complete(location, one, rounds, shown)
                failures = 0
            except RoundsError as error:
                failures += 1
                # Only a cluster that does not answer is worth another try: bad input stays bad.
                if isinstance(error, RoundsInputError) or printed is None or failures > _MAX_FAILURES:
                    raise
                time.sleep(WATCH_SECONDS)
                continue
            if live is not None:
                live.update(_tables(location, shown, rounds), refresh=True)
            elif shown != printed:
                _print(location, shown, rounds, json=json)
                sys.stdout.flush()
            printed = shown
            if complete:
                return
            time.sleep(WATCH_SECONDS)


def _complete(location: Location, one: str | None, rounds: Rounds, shown: Mapping[str, RoundStatus]) -> bool:
    """Return whether all rounds have ended, and no further one will be made."""
    from rstar.rounds.evolution import has_ended, not_needed

    if not shown or not all(has_ended(status) for status in shown.values()):
        return False
    if one is not None:
        return True
    if rounds is None:
        return not location.makes_rounds()
    return all(not_needed(item, rounds, shown) for item in rounds if item.name not in shown)


def _print(location: Location, shown: Mapping[str, RoundStatus], rounds: Rounds, *, json: bool) -> None:
    from rstar.cli.console import wide_console
    from rstar.cli.result_tables import result_json

    if json:
        typer.echo(result_json(shown))
    else:
        wide_console().print(_tables(location, shown, rounds))


def _tables(location: Location, shown: Mapping[str, RoundStatus], rounds: Rounds) -> Group:
    from rich.console import Group
    from rich.text import Text

    from rstar.cli.result_tables import result_table
    from rstar.cli.status_tables import conditions_table, rounds_table
    from rstar.rounds.evolution import not_needed

    missing = {item.name: not_needed(item, rounds or (), shown) for item in rounds or () if item.name not in shown}
    parts: list[object] = [rounds_table(shown, missing)]
    single = next(iter(shown.values())) if len(shown) == 1 else None
    if single is not None and single.conditions:
        parts.append(conditions_table(single))
    if table := result_table(shown):
        parts.append(table)
    parts += [Text(note, style="dim") for note in location.notes(shown)]
    return Group(*parts)  # type: ignore[arg-type]

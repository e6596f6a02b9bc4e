"""``rstar status``: where the rounds of a store or a namespace are, without disturbing what runs them.

It reads what drivers and operators wrote, and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, chosen_place
from rstar.cli.completion import files_or_round_names
from rstar.cli.errors import FAILED, INTERRUPTED, CommandError
from rstar.cli.location import Place, found_round
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption

if TYPE_CHECKING:
    from rich.console import Group

    from rstar.rounds.status import RoundStatus

WATCH_SECONDS: Final = 2.0
_PATIENCE: Final = 15
"""Looks in a row that may fail before a watch gives up."""


def status(
    ctx: typer.Context,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|NAME]",
            help="A YAML file, or the name of one round; unset: all rounds.",
            show_default=False,
            autocompletion=files_or_round_names,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew as it changes, until all rounds shown have ended.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show where the rounds of a store, or of a cluster's namespace, are.

    Examples: `rstar status`, `rstar status r2 --store runs/tiny`, `rstar status rounds.yaml --json`,
    `rstar status -n lab --watch`

    With `--watch --json` it prints one JSON object per change.
    """
    place = chosen_place(ctx, store, namespace, context, kubeconfig)
    names = _names_in(Path(which)) if which is not None and Path(which).is_file() else None
    one = which if names is None else None
    if not watch:
        shown = _shown(place, one, names)
        _print(place, shown, names, json=json)
        return
    try:
        _watch(place, one, names, json=json)
    except KeyboardInterrupt:
        raise CommandError("", INTERRUPTED) from None


def _shown(place: Place, one: str | None, names: list[str] | None) -> dict[str, RoundStatus]:
    """Look once. Raises ``CommandError`` when nothing of what was asked for can be there."""
    found = place.rounds()
    if one is not None:
        return {one: found_round(place, one, found)}
    if names is not None:
        return {name: found[name] for name in names if name in found}
    if not found:
        raise CommandError(f"no round has run in {place.words}; start with 'rstar submit FILE {place.options}'")
    return found


def _watch(place: Place, one: str | None, names: list[str] | None, *, json: bool) -> None:
    from rich.live import Live

    from rstar.cli.console import wide_console

    live = Live(console=wide_console(), auto_refresh=False) if sys.stdout.isatty() and not json else None
    told: dict[str, RoundStatus] | None = None
    failures = 0
    with live if live is not None else _Nothing():
        while True:
            try:
                shown = _shown(place, one, names)
                failures = 0
            except CommandError as error:
                failures += 1
                # A cluster that is away for a moment comes back; what is wrong in itself does not.
                if error.code != FAILED or told is None or failures > _PATIENCE:
                    raise
                time.sleep(WATCH_SECONDS)
                continue
            if live is not None:
                live.update(_tables(place, shown, names), refresh=True)
            elif shown != told:
                _print(place, shown, names, json=json)
                sys.stdout.flush()
            told = shown
            wanted = len(names) if names is not None else 1
            if len(shown) >= wanted and all(status.phase in {"Succeeded", "Failed"} for status in shown.values()):
                return
            time.sleep(WATCH_SECONDS)


class _Nothing:
    """A view that is not there."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


def _print(place: Place, shown: Mapping[str, RoundStatus], names: list[str] | None, *, json: bool) -> None:
    from rstar.cli.console import wide_console
    from rstar.cli.result_tables import result_json

    if json:
        typer.echo(result_json(shown))
    else:
        wide_console().print(_tables(place, shown, names))


def _tables(place: Place, shown: Mapping[str, RoundStatus], names: list[str] | None) -> Group:
    from rich.console import Group
    from rich.text import Text

    from rstar.cli.result_tables import result_table
    from rstar.cli.status_view import conditions_table, rounds_table

    parts: list[object] = [rounds_table(shown, missing=[name for name in names or () if name not in shown])]
    only = next(iter(shown.values())) if len(shown) == 1 else None
    if only is not None and only.conditions:
        parts.append(conditions_table(only))
    if table := result_table(shown):
        parts.append(table)
    parts += [Text(note, style="dim") for note in place.notes(shown)]
    return Group(*parts)  # type: ignore[arg-type]


def _names_in(file: Path) -> list[str]:
    from rstar.cli.rounds_files import parsed_rounds

    return [item.name for item in parsed_rounds([file])]

"""``rstar status``: where the rounds of a store are, without disturbing the driver that runs them.

It reads journals and progress files only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened_store


def status(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|NAME]", help="A YAML file, or the name of one round; unset: all rounds.", show_default=False
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Show where the rounds in the store are.

    Examples: `rstar status`, `rstar status r2 --store runs/tiny`, `rstar status rounds.yaml --json`
    """
    from rstar.cli.console import wide_console
    from rstar.cli.status_view import conditions_table, rounds_table
    from rstar.cli.tables import result_json, result_table
    from rstar.local.work import driver_pid, round_names, round_status, work_folder

    work = work_folder(opened_store(store))
    names = _names(which, round_names(work), store)
    found = {name: status for name in names if (status := round_status(work, name)) is not None}
    if json:
        typer.echo(result_json(found))
        return
    console = wide_console()
    console.print(rounds_table(found, missing=[name for name in names if name not in found]))
    if len(names) == 1 and found:
        console.print(conditions_table(found[names[0]]))
    if table := result_table(found):
        console.print(table)
    if any(status.phase == "Running" for status in found.values()):
        pid = driver_pid(work)
        console.print(
            f"at work: pid {pid}" if pid else "nobody is at work now; the same 'rstar run' goes on", style="dim"
        )


def _names(which: str | None, known: list[str], store: str) -> list[str]:
    if which is None:
        if not known:
            raise CommandError(f"no round has run in the store {store}; start with 'rstar run FILE --store {store}'")
        return known
    if not Path(which).is_file():
        if which in known:
            return [which]
        from rstar.rounds.sentences import nearest

        hint = nearest(which, known) if known else "; no round has run there"
        raise CommandError(f"there is no file and, in the store {store}, no round {which!r}{hint}")
    import yaml

    from rstar.rounds.load import SpecError, parse_rounds

    try:
        return [item.name for item in parse_rounds(Path(which))]
    except (SpecError, yaml.YAMLError) as error:
        raise CommandError(str(error)) from None

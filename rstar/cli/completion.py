"""Shell completion for names of rounds, in a store or on a cluster.

The shell waits for the result of a key press, so a lookup has a time limit, and an error means no suggestion.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

LOOKUP_SECONDS: Final = 5.0


def round_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of rounds that start with ``incomplete``."""
    found: list[str] = []

    def look_up() -> None:
        # A traceback would be printed into the command line that is being typed.
        with suppress(Exception, SystemExit):
            from rstar.cli.choose_location import choose_location
            from rstar.cli.options import DEFAULT_STORE

            given = ctx.params
            location = choose_location(
                ctx,
                given.get("store") or DEFAULT_STORE,
                given.get("namespace"),
                given.get("context"),
                given.get("kubeconfig"),
            )
            found.extend(name for name in location.rounds() if name.startswith(incomplete))

    # A daemon thread: an unreachable cluster must not keep the shell waiting for longer than the limit.
    lookup = threading.Thread(target=look_up, daemon=True)
    lookup.start()
    lookup.join(LOOKUP_SECONDS)
    return list(found)


def files_or_round_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the YAML files, folders and names of rounds that start with ``incomplete``."""
    folder, slash, _ = incomplete.rpartition("/")
    prefix = f"{folder}{slash}"
    files: list[str] = []
    with suppress(OSError):
        entries = sorted(Path(prefix or ".").iterdir())
        files = [f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries]
    matching = [file for file in files if file.startswith(incomplete) and file.endswith(("/", ".yaml", ".yml"))]
    return [*round_names(ctx, incomplete), *matching]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the round.", show_default=False, autocompletion=round_names)
]

"""Names of rounds for the shell's completion, in a store or on a cluster.

It is asked while a person waits for a key to do something: it is quick or says nothing, and never an error.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

ANSWER_SECONDS: Final = 5.0


def round_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of rounds that start with ``incomplete``."""
    found: list[str] = []

    def look() -> None:
        # Nothing is worth a traceback in the middle of a command line.
        with suppress(Exception, SystemExit):
            from rstar.cli.choose_location import chosen_place
            from rstar.cli.options import DEFAULT_STORE

            given = ctx.params
            place = chosen_place(
                ctx,
                given.get("store") or DEFAULT_STORE,
                given.get("namespace"),
                given.get("context"),
                given.get("kubeconfig"),
            )
            found.extend(name for name in place.rounds() if name.startswith(incomplete))

    # A thread that nobody waits for: a cluster that does not answer must not hold the shell.
    asking = threading.Thread(target=look, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return list(found)


def files_or_round_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return YAML files and folders that start with ``incomplete``, and the names of rounds that do."""
    folder, slash, _ = incomplete.rpartition("/")
    lead = f"{folder}{slash}"
    files: list[str] = []
    with suppress(OSError):
        entries = sorted(Path(lead or ".").iterdir())
        files = [f"{lead}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries]
    fitting = [file for file in files if file.startswith(incomplete) and file.endswith(("/", ".yaml", ".yml"))]
    return [*round_names(ctx, incomplete), *fitting]


NameArgument = Annotated[
    str, typer.Argument(help="The name of the round.", show_default=False, autocompletion=round_names)
]

"""Commands that other parts of the platform bring along: the entry point group ``rstar.commands``.

An entry point names a typer application, which becomes ``rstar NAME ...``. It is loaded when it is asked for, so that an
image without that part has a command line all the same. The module refuses to know any part by name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from rstar.cli.errors import CommandError

GROUP = "rstar.commands"


class CommandGroup(TyperGroup):
    """A command group whose commands are its own and the installed ones."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return [*super().list_commands(ctx), *sorted(_installed())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command; None when it is not there, or what it needs is not."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        try:
            return _load(cmd_name)
        except (KeyError, ImportError):
            return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Say what is missing when a command is asked for that cannot be loaded."""
        if super().get_command(ctx, args[0]) is None:
            try:
                _load(args[0])
            except KeyError:
                pass
            except ImportError as error:
                raise CommandError(f"the command {args[0]} cannot be loaded: {error}") from None
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    command = typer.main.get_command(_installed()[name].load())
    command.name = name
    return command


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}

"""``rstar serve NAME``: the services of the entry point group ``rstar.services``, each loaded only when asked for.

So an image that has no torch still serves the executor. The module refuses to know any service by name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from rstar.cli.errors import CommandError

GROUP = "rstar.services"


class ServiceGroup(TyperGroup):
    """A command group whose commands are the installed services."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the installed services."""
        return sorted(_installed())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one service's command; None when there is no such service."""
        entry = _installed().get(cmd_name)
        if entry is None:
            return None
        try:
            function = entry.load()
        except ImportError as error:
            if ctx.invoked_subcommand is None and ctx.args == []:
                return None
            raise CommandError(f"the {cmd_name} service cannot be loaded: {error}; install rstar[{cmd_name}]") from None
        app = typer.Typer(add_completion=False)
        app.command(name=cmd_name)(function)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}

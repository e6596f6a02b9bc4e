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
        """Load one service's command; None when it is not installed, or what it needs is not."""
        try:
            return _load(cmd_name)
        except (KeyError, ImportError):
            return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Say what is missing when a service is asked for that cannot be loaded."""
        try:
            _load(args[0])
        except KeyError:
            pass
        except ImportError as error:
            raise CommandError(f"the {args[0]} service cannot be loaded: {error}; install rstar[{args[0]}]") from None
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name=name)(_installed()[name].load())
    command = typer.main.get_command(app)
    command.name = name
    return command


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}

"""Commands of installed parts of the platform: the entry point groups ``rstar.commands`` and ``rstar.services``.

An entry point is loaded only when its command is used, so an image without torch still serves the executor. No part is
known here by name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from rstar.cli.errors import CommandError
from rstar.distribution import extra


class _EntryPointGroup(TyperGroup):
    """A command group with its own commands and those of ``entry_point_group``."""

    entry_point_group: ClassVar[str]

    def build(self, name: str, loaded: Any) -> Any:
        """Return the command for the object that the entry point names."""
        raise NotImplementedError

    def load_failure(self, name: str, error: ImportError) -> str:
        """Return the message when the entry point of ``name`` cannot be imported."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, without loading any."""
        return [*super().list_commands(ctx), *sorted(self._installed())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one command; None when it is not installed or cannot be imported."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        try:
            return self._load(cmd_name)
        except (KeyError, ImportError):
            return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raise ``CommandError`` with the reason when the command in ``args`` is installed but cannot be imported."""
        if super().get_command(ctx, args[0]) is None and args[0] in self._installed():
            try:
                self._load(args[0])
            except ImportError as error:
                raise CommandError(self.load_failure(args[0], error)) from None
        return super().resolve_command(ctx, args)

    def _load(self, name: str) -> Any:
        command = self.build(name, self._installed()[name].load())
        command.name = name
        return command

    def _installed(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.entry_point_group)}


class InstalledCommands(_EntryPointGroup):
    """``rstar NAME ...``: an entry point of ``rstar.commands`` names a typer application."""

    entry_point_group = "rstar.commands"

    def build(self, name: str, loaded: Any) -> Any:
        """Return the application as one command."""
        return typer.main.get_command(loaded)

    def load_failure(self, name: str, error: ImportError) -> str:
        """Return the message with the missing module."""
        return f"the command {name} cannot be loaded: {error}"


class InstalledServices(_EntryPointGroup):
    """``rstar serve NAME``: an entry point of ``rstar.services`` names a function whose parameters are the options."""

    entry_point_group = "rstar.services"

    def build(self, name: str, loaded: Any) -> Any:
        """Return the function as one command."""
        app = typer.Typer(add_completion=False)
        app.command(name=name)(loaded)
        return typer.main.get_command(app)

    def load_failure(self, name: str, error: ImportError) -> str:
        """Return the message with the missing module and the extra that installs it."""
        return f"the {name} service cannot be loaded: {error}; {extra(name)}"

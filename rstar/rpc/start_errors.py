"""The end of a service that cannot start: one sentence on standard error and an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import typer

from rstar.store.store import StoreError


@contextlib.contextmanager
def exit_on_start_error(service: str) -> Iterator[None]:
    """End the program with exit code 2 for wrong settings (``ValueError``, ``OSError``) and 1 for ``StoreError``."""
    try:
        yield
    except (ValueError, OSError) as error:
        _exit(service, error, 2)
    except StoreError as error:
        _exit(service, error, 1)


def _exit(service: str, error: Exception, code: int) -> NoReturn:
    typer.echo(f"{service}: {error}", err=True)
    raise typer.Exit(code) from None

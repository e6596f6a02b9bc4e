"""The end of a service that cannot start: one sentence on standard error and an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import typer

from rstar.models.vllm_runtime import EngineStartError
from rstar.rpc.errors import CallFailed
from rstar.rpc.serving import ServiceFailed
from rstar.store.store import StoreError


@contextlib.contextmanager
def exit_on_start_error(service: str) -> Iterator[None]:
    """End the program with one sentence and exit code 2 for wrong settings (``ValueError``, ``OSError``), else with 1.

    1 is for what another start may not meet: another service that is not there (``CallFailed``), ``StoreError``,
    ``EngineStartError``, ``ServiceFailed`` and ``RuntimeError``, such as a GPU without memory.
    """
    try:
        yield
    except typer.Exit:  # a RuntimeError
        raise
    except CallFailed as error:  # one of its kinds is an OSError too
        _exit(service, error, 1)
    except (ValueError, OSError) as error:
        _exit(service, error, 2)
    except (StoreError, EngineStartError, ServiceFailed, RuntimeError) as error:
        _exit(service, error, 1)


def _exit(service: str, error: Exception, code: int) -> NoReturn:
    typer.echo(f"{service}: {error}", err=True)
    raise typer.Exit(code) from None

"""``rstar suspend``, ``rstar resume`` and ``rstar cancel``: each records a request for a round and returns.

Not covered: waiting until the driver or operator has carried it out; ``rstar status`` shows that.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, choose_location
from rstar.cli.completion import NameArgument
from rstar.cli.errors import CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.location import ChangeResult


def suspend(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Suspend a round: its stage saves its work, and all its compute is released until `rstar resume`.

    On this machine the driver keeps running and waits. Without a driver, the request applies to the next `rstar run`.

    For example:

    - `rstar suspend r2`
    - `rstar suspend r2 -n lab`
    """
    _print_result(name, choose_location(ctx, store, namespace, context, kubeconfig).suspend(name), json=json)


def resume(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Resume a suspended round where it stopped.

    On this machine no driver is started: if none is running, run the same `rstar run` or `rstar submit` again.

    For example:

    - `rstar resume r2`
    - `rstar resume r2 -n lab`
    """
    _print_result(name, choose_location(ctx, store, namespace, context, kubeconfig).resume(name), json=json)


def cancel(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Cancel a round permanently. The output of its finished stages is kept.

    For example:

    - `rstar cancel r2`
    - `rstar cancel r2 -n lab --yes`
    """
    location = choose_location(ctx, store, namespace, context, kubeconfig)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(
                f"no terminal to confirm on: give --yes to cancel round {name} in {location.description} permanently"
            )
        if not typer.confirm(f"Cancel round {name} in {location.description} permanently?", err=True):
            raise CommandError(f"round {name} was not cancelled")
    _print_result(name, location.cancel(name), json=json)


def _print_result(name: str, result: ChangeResult, *, json: bool) -> None:
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"round": name, "changed": result.changed, "message": result.message}))
    else:
        typer.echo(result.message)

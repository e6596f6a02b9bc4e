"""``rstar suspend``, ``rstar resume`` and ``rstar cancel``: what a user asks of a round that is under way.

The module refuses to wait until it is done: ``rstar status`` shows it.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, chosen_place
from rstar.cli.completion import NameArgument
from rstar.cli.errors import CommandError
from rstar.cli.location import Said
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def suspend(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Release all compute of a round and let it wait; its stage saves what it has.

    On this machine the driver stays and waits for `rstar resume`; when none is at work, the next one waits at once.

    Examples: `rstar suspend r2`, `rstar suspend r2 -n lab`
    """
    _tell(name, chosen_place(ctx, store, namespace, context, kubeconfig).suspend(name), json=json)


def resume(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with a suspended round, where it stopped.

    On this machine it starts nothing by itself: when no driver is at work, the same `rstar run` or `rstar submit` does.

    Examples: `rstar resume r2`, `rstar resume r2 -n lab`
    """
    _tell(name, chosen_place(ctx, store, namespace, context, kubeconfig).resume(name), json=json)


def cancel(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """End a round for good; what its stages have finished is kept.

    Examples: `rstar cancel r2`, `rstar cancel r2 -n lab --yes`
    """
    place = chosen_place(ctx, store, namespace, context, kubeconfig)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"nobody can be asked here: give --yes to cancel round {name} of {place.words} for good")
        if not typer.confirm(f"Cancel round {name} of {place.words} for good?", err=True):
            raise CommandError(f"round {name} is left alone")
    _tell(name, place.cancel(name), json=json)


def _tell(name: str, said: Said, *, json: bool) -> None:
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"round": name, "changed": said.changed, "message": said.message}))
    else:
        typer.echo(said.message)

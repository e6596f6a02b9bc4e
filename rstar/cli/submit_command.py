"""``rstar submit FILE...``: submits rounds to a cluster's operator or to a background driver of this machine, and returns.

Not covered: waiting for the rounds; ``rstar status --watch`` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, choose_location
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def submit(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="YAML files with EvolutionRounds.", show_default=False)
    ],
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    upload_to: Annotated[
        str | None,
        typer.Option(
            help="Cluster: the store for local problem files and base models, s3://BUCKET/PREFIX; "
            "default: the store that the namespace's Secret names.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Submit rounds to a cluster, or to a background driver on this machine.

    All files are checked as `rstar run` checks one, before anything starts. On a cluster, local problem files and base
    models are uploaded first, under names made from their contents. A round that exists already is changed where FILE
    differs from it (configured), and otherwise left alone (unchanged).

    For example:

    - `rstar submit rounds.yaml -n lab`
    - `rstar submit r1.yaml r2.yaml --context lab-cluster`
    - `rstar submit rounds.yaml --store runs/tiny`
    """
    location = choose_location(ctx, store, namespace, context, kubeconfig, upload_to)
    outcomes = location.submit(files, lambda text: typer.echo(text, err=True))
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"rounds": outcomes}))
        return
    for name, outcome in outcomes.items():
        typer.echo(f"{name}: {outcome}")
    first = next(iter(outcomes))
    typer.echo(
        f"follow with 'rstar status {location.options} --watch' or 'rstar logs {first} {location.options} -f'", err=True
    )

"""``rstar submit FILE...``: rounds are handed over, and the command ends.

To a cluster's operator, or to a driver in the background of this machine. The module refuses to wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, chosen_place
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def submit(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="YAML files with EvolutionRounds.", show_default=False)
    ],
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    upload_to: Annotated[
        str | None,
        typer.Option(
            help="Cluster: the namespace's store s3://BUCKET/PREFIX, where local problem files and base models go; "
            "unset: as the namespace's Secret says.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hand the rounds of all FILEs over and return: to a cluster, or to a driver in the background of this machine.

    Everything is checked as `rstar run` does before anything starts. On a cluster, local problem files and base models
    are uploaded first, under a name of their contents; a round that is there already is changed if FILE means something
    else (configured) or left alone (unchanged).

    Examples: `rstar submit rounds.yaml -n lab`, `rstar submit r1.yaml r2.yaml --context lab-cluster`,
    `rstar submit rounds.yaml --store runs/tiny`
    """
    place = chosen_place(ctx, store, namespace, context, kubeconfig, upload_to)
    done = place.submit(files, lambda text: typer.echo(text, err=True))
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"rounds": done}))
        return
    for name, word in done.items():
        typer.echo(f"{name}: {word}")
    first = next(iter(done))
    typer.echo(
        f"follow with 'rstar status {place.options} --watch' or 'rstar logs {first} {place.options} -f'", err=True
    )

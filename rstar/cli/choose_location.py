"""The options that name a cluster, and the choice between the two locations of rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.locations.choose import open_namespace_location, open_store_location
from rstar.locations.location import Location

NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="A cluster's namespace, instead of a store on this machine.", show_default=False
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        help="Context of the kubeconfig: a cluster, and its namespace unless -n is given.", show_default=False
    ),
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option(help="Kubeconfig file; default: KUBECONFIG, or the pod's service account.", show_default=False),
]


def choose_location(
    context: typer.Context,
    store: str,
    namespace: str | None,
    cluster_context: str | None,
    kubeconfig: Path | None,
    upload_to: str | None = None,
) -> Location:
    """Return the location that the options name: a namespace if any cluster option is given, otherwise the store.

    Raises ``CommandError`` when the options contradict each other.
    """
    if namespace is None and cluster_context is None and kubeconfig is None:
        if upload_to is not None:
            raise CommandError("--upload-to is for a cluster: give -n NAMESPACE too, or leave it out")
        return open_store_location(store)
    source = context.get_parameter_source("store")
    # RSTAR_STORE may be set for other commands, so only a typed --store contradicts the cluster options.
    if source is not None and source.name == "COMMANDLINE":
        raise CommandError("give --store for this machine, or --namespace, --context and --kubeconfig for a cluster")
    return open_namespace_location(namespace, cluster_context, kubeconfig, upload_to)

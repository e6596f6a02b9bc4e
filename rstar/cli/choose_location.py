"""The options that name a cluster, and the choice between the two locations of rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.distribution import extra
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
    if not names_cluster(context, namespace, cluster_context, kubeconfig):
        if upload_to is not None:
            raise CommandError("--upload-to is for a cluster: give -n NAMESPACE too, or leave it out")
        return open_store_location(store)
    return open_namespace_location(namespace, cluster_context, kubeconfig, upload_to)


class ClusterOnly:
    """As the context's object: the program is about clusters alone, so that the kubeconfig names the default place."""


def names_cluster(
    context: typer.Context, namespace: str | None, cluster_context: str | None, kubeconfig: Path | None
) -> bool:
    """Return whether the options name a cluster. Raises ``CommandError`` when they name a store too."""
    named = any(value is not None for value in (namespace, cluster_context, kubeconfig))
    if not named and context.find_object(ClusterOnly) is None:
        return False
    source = context.get_parameter_source("store")
    # RSTAR_STORE may be set for other commands, so only a typed --store contradicts the cluster options.
    if source is not None and source.name == "COMMANDLINE":
        raise CommandError("give --store for this machine, or --namespace, --context and --kubeconfig for a cluster")
    return True


def cluster_library() -> None:
    """Raise ``CommandError`` with the remedy when the library for clusters is not installed."""
    from importlib.util import find_spec

    if find_spec("kubernetes") is None:
        raise CommandError(f"clusters need one more library: {extra('cluster')}")

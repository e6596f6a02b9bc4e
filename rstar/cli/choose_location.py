"""Which place a command means: the options that name a cluster, and what they lead to.

A module of its own, as it knows both kinds of places, which know nothing of each other. It refuses a contradiction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.location import Place

NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="A namespace of a cluster, in place of a store on this machine.", show_default=False
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(help="Context of the kubeconfig: a cluster; its namespace, unless -n is given.", show_default=False),
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option(help="The kubeconfig of a cluster; unset: KUBECONFIG, or the pod's own.", show_default=False),
]


def chosen_place(
    context: typer.Context,
    store: str,
    namespace: str | None,
    cluster_context: str | None,
    kubeconfig: Path | None,
    upload_to: str | None = None,
) -> Place:
    """Return the place that the options name: a namespace if any option is a cluster's, else the store."""
    if namespace is None and cluster_context is None and kubeconfig is None:
        from rstar.cli.store_location import StorePlace

        if upload_to is not None:
            raise CommandError("--upload-to is for a cluster: give -n NAMESPACE too, or leave it out")
        return StorePlace(store)
    source = context.get_parameter_source("store")
    # RSTAR_STORE may be set for other commands; only an option typed beside the cluster's contradicts it.
    if source is not None and source.name == "COMMANDLINE":
        raise CommandError("give --store for this machine, or --namespace, --context and --kubeconfig for a cluster")
    try:
        from rstar.cli.namespace_location import connected
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in {"kubernetes", "urllib3"}:
            raise
        raise CommandError("commands on clusters need one more library: pip install 'rstar[cluster]'") from None
    return connected(namespace, cluster_context, kubeconfig, upload_to)

"""Opens the location that a user names.

The only module that knows both kinds of location, so that neither needs to import the other.
"""

from __future__ import annotations

from pathlib import Path

from rstar.distribution import extra
from rstar.locations.errors import RoundsInputError
from rstar.locations.location import Location


def open_store_location(uri: str) -> Location:
    """Open the rounds of a store on this machine. Raises ``RoundsError``."""
    from rstar.locations.store_location import StoreLocation

    return StoreLocation(uri)


def open_namespace_location(
    namespace: str | None, context: str | None, kubeconfig: Path | None, upload_to: str | None
) -> Location:
    """Connect to the rounds of a namespace; ``upload_to``: see ``NamespaceLocation``. Raises ``RoundsError``."""
    try:
        from rstar.locations.namespace_location import connect_namespace
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in {"kubernetes", "urllib3"}:
            raise
        raise RoundsInputError(f"clusters need one more library: {extra('cluster')}") from None
    return connect_namespace(namespace, context, kubeconfig, upload_to)

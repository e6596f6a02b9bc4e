"""Waits for custom resource definitions to be served."""

from __future__ import annotations

import time

from rstar_testbed.cluster import Testbed

from rstar.cluster.names import EVOLUTIONS_PLURAL, GROUP, PLURAL

_STATUS = '{.status.conditions[?(@.type=="Established")].status}'


def await_established(bed: Testbed, name: str, seconds: float = 180.0) -> None:
    """Wait until the API server serves the definition ``name``; ``kubectl wait`` fails while it has no conditions yet."""
    until = time.monotonic() + seconds
    while bed.kubectl("get", f"crd/{name}", "-o", f"jsonpath={_STATUS}").strip() != "True":
        assert time.monotonic() < until, f"{name} is not established"
        time.sleep(0.2)


def await_crds(bed: Testbed) -> None:
    """Wait until the API server serves rounds and evolutions."""
    for plural in (PLURAL, EVOLUTIONS_PLURAL):
        await_established(bed, f"{plural}.{GROUP}")

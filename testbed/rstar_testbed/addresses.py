"""Where a testbed listens: loopback without a node; with a node, a link that the node's pods reach too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Addresses:
    """IPv4 addresses and networks of one testbed: the machine's side, the node's, its pods' and its Services'."""

    machine: str
    services: str
    kubernetes_service: str
    """The first address of ``services``: that of the API server for pods."""

    cluster_dns: str = ""
    node: str = ""
    link: str = ""
    pods: str = ""


LOOPBACK: Final = Addresses(machine="127.0.0.1", services="10.0.0.0/16", kubernetes_service="10.0.0.1")

NODE: Final = Addresses(
    machine="100.64.0.1",
    node="100.64.0.2",
    link="100.64.0.0/30",
    pods="100.65.0.0/16",
    services="100.66.0.0/16",
    kubernetes_service="100.66.0.1",
    cluster_dns="100.66.0.10",
)
"""From 100.64.0.0/10, which is reserved for the inside of a provider's network (RFC 6598): a lab's own networks rarely use it."""

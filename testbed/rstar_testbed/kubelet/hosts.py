"""The /etc/hosts of a pod, made from all EndpointSlices, so that it can look up Services. Pure, except for :func:`rewrite`.

A Service's names resolve to all its ready pods, headless or not: there is no kube-proxy. A pod with a host name has
the name HOSTNAME.SERVICE.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rstar_testbed.kubelet.behaviour import Pod

_SERVICE: Final = "kubernetes.io/service-name"

Services = dict[tuple[str, str], list[str]]
"""(namespace, SERVICE or HOSTNAME.SERVICE) -> addresses of its ready pods."""


def services_of(slices: Iterable[dict[str, Any]]) -> Services:
    """Return the ready addresses of every Service, and of its pods with a host name."""
    found: dict[tuple[str, str], set[str]] = {}
    for each in slices:
        service = each["metadata"].get("labels", {}).get(_SERVICE)
        if not service:
            continue
        namespace = each["metadata"]["namespace"]
        addresses = found.setdefault((namespace, service), set())
        for endpoint in each.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready", True):
                addresses.update(endpoint["addresses"])
                if host := endpoint.get("hostname"):
                    found.setdefault((namespace, f"{host}.{service}"), set()).update(endpoint["addresses"])
    return {key: sorted(addresses) for key, addresses in found.items()}


def hosts_text(pod: Pod, address: str, services: Services) -> str:
    """Return the content of the pod's /etc/hosts."""
    own = pod["metadata"]["namespace"]
    lines = ["127.0.0.1 localhost", f"{address} {pod['metadata']['name']}"]
    for (namespace, service), addresses in sorted(services.items()):
        full = f"{service}.{namespace}"
        names = [f"{full}.svc.cluster.local", f"{full}.svc", full]
        if namespace == own and service != pod["metadata"]["name"]:
            names.append(service)
        lines += [f"{each} {' '.join(names)}" for each in addresses]
    return "\n".join(lines) + "\n"


def rewrite(path: Path, text: str) -> None:
    """Change the file in place: it is mounted, and the container would not see a new file of that name."""
    with path.open("r+b") as file:
        file.write(text.encode())
        file.truncate()

"""Addresses of servers: ``HOST:PORT``, or ``dns:///HOST:PORT`` for a name with many addresses.

A plain address is one server. A ``dns:///`` name, such as that of a headless Kubernetes Service, stands for every
address behind it. It is looked up again at intervals, so that new servers are found and removed ones dropped.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

_DNS: Final = "dns:///"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address. ``many``: every address behind the name is a server of its own."""

    host: str
    port: int
    many: bool

    def __str__(self) -> str:
        return f"{_DNS if self.many else ''}{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """Parse ``HOST:PORT`` or ``dns:///HOST:PORT``. Raises ``ValueError`` with one sentence for anything else."""
    host, _, port = text.strip().removeprefix(_DNS).rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r} is not a server's address: write HOST:PORT or dns:///HOST:PORT")
    return Target(host, int(port), text.strip().startswith(_DNS))


async def look_up(target: Target) -> list[str]:
    """Return the addresses behind ``target``, sorted. Raises ``OSError`` when the name does not resolve."""
    if not target.many:
        return [str(target)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host.strip("[]"), target.port, type=socket.SOCK_STREAM)
    return sorted({join_address(str(place[0]), target.port) for *_, place in found})


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""Addresses for pods: a network of this machine alone, on its loopback interface.

Loopback addresses (127.0.0.0/8) do not work: the API refuses them in EndpointSlices. RFC 2544 reserves this network for
tests, so that it hides no route of the machine. One route keeps all of its addresses on this machine, even those of scripted
pods, where nobody listens. A real pod's address is also put on the interface, for libraries that look for the interface of
their address. Needs root; without it only scripted pods are possible.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import random
import subprocess
from pathlib import Path
from typing import Final

from rstar_testbed.errors import TestbedError

_ALL: Final = ipaddress.ip_network("198.18.0.0/15")
_PREFIX: Final = 22
# The protocol marks the testbed's routes. The metric is the process that made them, so that a killed process's can be found.
_PROTOCOL: Final = "157"


class PodNetwork:
    """A range of addresses, handed out in turn. Two kubelets of one process have a range each."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._on_interface: set[str] = set()
        self.routed = False
        self._choose()

    def take(self) -> str:
        """Return the next address."""
        return next(self._addresses)

    def open(self) -> None:
        """Route a range of addresses that no other kubelet has to this machine."""
        _remove_stale()
        while True:
            done = self._route("add")
            if done.returncode and "File exists" not in done.stderr:
                raise TestbedError(f"Pods cannot get addresses of their own ({done.stderr.strip()}): run as root.")
            if not done.returncode:
                if [network for network, _ in routes()].count(str(self.network)) == 1:
                    break
                self._route("del")
            self._choose()
        self.routed = True

    def put_on_interface(self, address: str) -> None:
        """Put the address of a real pod on the interface, until :meth:`close`."""
        done = _ip("address", "add", f"{address}/32", "dev", "lo")
        if done.returncode:
            raise TestbedError(f"A pod cannot get the address {address}: {done.stderr.strip()}")
        self._on_interface.add(address)

    def close(self) -> None:
        """Remove the addresses and the route."""
        for address in self._on_interface:
            _ip("address", "del", f"{address}/32", "dev", "lo")
        self._on_interface.clear()
        if self.routed:
            self._route("del")
            self.routed = False

    def _choose(self) -> None:
        subnets = 2 ** (_PREFIX - _ALL.prefixlen)
        first = int(_ALL.network_address) + random.randrange(subnets) * 2 ** (32 - _PREFIX)
        self.network = ipaddress.ip_network((first, _PREFIX))
        self._addresses = itertools.cycle([str(address) for address in self.network.hosts()])

    def _route(self, verb: str) -> subprocess.CompletedProcess[str]:
        owner = ("proto", _PROTOCOL, "metric", str(self._process))
        return _ip("route", verb, "local", str(self.network), "dev", "lo", *owner)


def routes() -> list[tuple[str, int]]:
    """Return the networks that are routed to pods now, each with the process that made the route."""
    words = [line.split() for line in _ip("route", "show", "table", "local", "proto", _PROTOCOL).stdout.splitlines()]
    return [(line[1], int(line[line.index("metric") + 1])) for line in words]


def _remove_stale() -> None:
    """Remove the routes and addresses of kubelets that were killed."""
    for network, process in routes():
        if Path(f"/proc/{process}").exists():
            continue
        shown = _ip("-oneline", "address", "show", "dev", "lo", "to", network).stdout.splitlines()
        for line in shown:
            _ip("address", "del", line.split()[3], "dev", "lo")
        _ip("route", "del", "local", network, "proto", _PROTOCOL, "metric", str(process))


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    raise TestbedError("Real pods need the program ip: install iproute2.")

"""Addresses for pods: a network of this machine's own, on its loopback interface.

Loopback addresses themselves (127.0.0.0/8) will not do: the API refuses them in EndpointSlices. The network is one of those
that RFC 2544 sets aside for tests, so no route of the machine is hidden by it. One route keeps all of its addresses on this
machine, even those of scripted pods, where nobody listens; a real pod's address is put on the interface as well, for
libraries that look for the interface they are to use. Needs root; without it, only scripted pods can be played.
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
# Marks our routes; the metric is the process that they belong to, so that those of a killed one can be told.
_PROTOCOL: Final = "157"


class PodNetwork:
    """A range of addresses, each given out once before any is given out again. Two kubelets of one process have two."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._on_interface: set[str] = set()
        self.routed = False
        self._choose()

    def take(self) -> str:
        """Return the next address."""
        return next(self._addresses)

    def open(self) -> None:
        """Make a range of addresses this machine's own that no other kubelet has."""
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
        """Let the interface have the address of a real pod, until :meth:`close`."""
        done = _ip("address", "add", f"{address}/32", "dev", "lo")
        if done.returncode:
            raise TestbedError(f"A pod cannot get the address {address}: {done.stderr.strip()}")
        self._on_interface.add(address)

    def close(self) -> None:
        """Take the addresses and the route away again."""
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
    """Networks that are routed to pods now, each with the process it belongs to."""
    words = [line.split() for line in _ip("route", "show", "table", "local", "proto", _PROTOCOL).stdout.splitlines()]
    return [(line[1], int(line[line.index("metric") + 1])) for line in words]


def _remove_stale() -> None:
    """Remove what kubelets left that were killed."""
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

"""The node's namespaces (network, mounts, processes) and its link to the machine.

Everything of the node runs inside. When the holder ends, however it ends, the kernel removes processes, mounts and
interfaces; only empty cgroups stay, which the next start removes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rstar_testbed.addresses import Addresses
from rstar_testbed.errors import TestbedError
from rstar_testbed.node.init import PRIVATE, READY
from rstar_testbed.processes import Component

_INTERFACE: Final = "rstar-node"
_CGROUPS: Final = Path("/sys/fs/cgroup")
_CGROUP_PREFIX: Final = "rstar-testbed-"
_SECONDS: Final = 30.0


class Namespaces:
    """The namespaces of one node, which :meth:`close` ends. A machine has at most one testbed with a node."""

    def __init__(self, folder: Path, addresses: Addresses) -> None:
        self.folder = folder / "node"
        self._addresses = addresses
        self._check(folder)
        remove_abandoned_cgroups()
        self.folder.mkdir()
        namespaces = ("--net", "--mount", "--pid", "--ipc", "--uts")
        self._holder = Component(
            "node",
            [
                "unshare", *namespaces, "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation=private",
                sys.executable, "-m", "rstar_testbed.node.init", self.folder,
            ],
            folder / "logs/node.log",
        )  # fmt: skip
        try:
            self._holder.wait_until((self.folder / READY).exists, _SECONDS)
            children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
            self._first = children[0]
            self._connect()
        except BaseException:
            self.close()
            raise
        self.cgroup = f"{_CGROUP_PREFIX}{self._holder.pid}"

    def command(self, *command: str | Path) -> list[str | Path]:
        """Return the command that runs ``command`` inside the node."""
        return ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", "--ipc", "--uts", "--", *command]

    def run(self, *command: str | Path) -> str:
        """Run a command inside the node and return its output. Raises :class:`TestbedError` with its error."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TestbedError(f"{' '.join(map(str, command[:4]))} failed on the node: {done.stderr.strip()[-600:]}")
        return done.stdout

    def make_cgroups(self) -> None:
        """Make the cgroup of the node's pods, in every hierarchy."""
        for hierarchy in _hierarchies():
            (hierarchy / self.cgroup).mkdir(exist_ok=True)

    def kill_processes(self) -> None:
        """Kill every process inside, those of the pods too; the namespaces stay."""
        self.run("sh", "-c", "kill -KILL -1")

    def container_processes(self, container: str) -> list[int]:
        """Return the processes of a container, as this machine numbers them; [] when it has ended. ``container`` is its id."""
        for hierarchy in _hierarchies():
            for file in (hierarchy / self.cgroup).rglob(f"{container}/cgroup.procs"):
                return [int(line) for line in file.read_text().split()]
        return []

    def close(self) -> None:
        """End the holder, and with it every process, mount and interface of the node; remove its containers' files."""
        self._holder.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_abandoned_cgroups()

    def _check(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise TestbedError("A node needs root: it makes namespaces, mounts and cgroups.")
        for path in PRIVATE:
            if folder.resolve().is_relative_to(path):
                raise TestbedError(f"A testbed with a node cannot be in {path}, which it hides: name another folder.")
        links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout)
        if any(link["ifname"] == _INTERFACE for link in links):
            raise TestbedError(
                f"The interface {_INTERFACE} exists: another testbed with a node is up. End it (Ctrl-C where it runs)."
            )

    def _connect(self) -> None:
        here = self._addresses
        _run("ip", "link", "add", _INTERFACE, "type", "veth", "peer", "name", "eth0", "netns", self._first)
        _run("ip", "address", "add", f"{here.machine}/30", "dev", _INTERFACE)
        _run("ip", "link", "set", _INTERFACE, "up")
        self.run("ip", "address", "add", f"{here.node}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", here.machine)
        # Tests and users reach pods and Services through the node, as from a machine of the cluster's network.
        for network in (here.pods, here.services):
            _run("ip", "route", "add", network, "via", here.node)


def remove_abandoned_cgroups() -> None:
    """Remove the cgroups of nodes whose holder has ended."""
    for hierarchy in _hierarchies():
        for top in hierarchy.glob(f"{_CGROUP_PREFIX}*"):
            if Path("/proc", top.name.removeprefix(_CGROUP_PREFIX)).exists():
                continue
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:  # Its last process is still ending: the next start removes it.
                    break


def _hierarchies() -> Sequence[Path]:
    unified = (_CGROUPS / "cgroup.controllers").exists()
    return [_CGROUPS] if unified else [each for each in _CGROUPS.iterdir() if each.is_dir() and not each.is_symlink()]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"{' '.join(command)} failed: {done.stderr.strip()}")

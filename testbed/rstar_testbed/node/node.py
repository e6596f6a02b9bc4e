"""One real node: its namespaces, containerd, kubelet, kube-proxy, and the add-ons that run as pods on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rstar_testbed.control_plane import ControlPlane
from rstar_testbed.errors import TestbedError
from rstar_testbed.node.addons import DEPLOYMENTS, Apply, available, install_addons
from rstar_testbed.node.components import await_kubelet, start_kube_proxy, start_kubelet, start_scheduler
from rstar_testbed.node.container_runtime import await_containerd, import_image, start_containerd
from rstar_testbed.node.namespaces import Namespaces
from rstar_testbed.node.oci import pause_image
from rstar_testbed.node.registry import PORT, Registry, registry_data
from rstar_testbed.processes import Component

NODE_PROGRAMS: Final = ("kubelet", "registry", *DEPLOYMENTS)
"""Programs from Go modules that a node needs beside those of the control plane."""

_SECONDS: Final = 180.0


class Node:
    """A node of a control plane that runs. :meth:`stop` leaves the machine as it was."""

    def __init__(self, plane: ControlPlane, namespaces: Namespaces, binaries: Mapping[str, Path]) -> None:
        self.namespaces = namespaces
        self._plane = plane
        self._binaries = binaries
        self._components: dict[str, Component] = {}
        address = f"{plane.addresses.machine}:{PORT}"
        self.registry = Registry(plane.folder, binaries["registry"], address, registry_data())

    def start(self, apply: Apply) -> None:
        """Start everything and return when the node takes pods. Raises :class:`TestbedError` with the log of what failed.

        ``apply`` applies manifests as cluster admin.
        """
        plane, namespaces = self._plane, self.namespaces
        self.registry.wait()
        self._start(lambda: start_containerd(namespaces, plane.addresses, self.registry.address))
        import_image(namespaces, pause_image(namespaces.folder / "pause.tar"))
        self._start(lambda: start_scheduler(plane, self._binaries))
        self._start(lambda: start_kube_proxy(plane, namespaces, self._binaries))
        self._start(lambda: start_kubelet(plane, namespaces, self._binaries))
        install_addons(plane, namespaces, self._binaries, apply)

    def wait(self) -> None:
        """Return when the add-ons' pods are ready. Raises :class:`TestbedError` naming the one that is not."""
        until = time.monotonic() + _SECONDS
        for name in DEPLOYMENTS:
            while not available(self._plane, "kube-system", name):
                if time.monotonic() > until:
                    raise TestbedError(
                        f"{name} was not ready in {_SECONDS:.0f} s: see its pod in kube-system and {self._log('kubelet')}."
                    )
                time.sleep(0.2)

    def restart(self, while_down: Callable[[], None] = lambda: None) -> None:
        """Kill everything on the node at once, as a loss of power does, call ``while_down``, start the node with the same disk.

        Returns when the kubelet serves; it then starts the pods that are to be restarted.
        """
        for component in self._components.values():
            component.stop()
        self.namespaces.kill_processes()
        while_down()
        for component in self._components.values():
            component.start()
            if component.name == "containerd":
                await_containerd(component, self.namespaces)
        await_kubelet(self._components["kubelet"], self._plane)

    def stop(self) -> None:
        """Kill the components and end the namespaces, and with them every pod."""
        while self._components:
            self._components.popitem()[1].stop()
        self.registry.stop()
        self.namespaces.close()

    def _log(self, name: str) -> Path:
        return self._plane.folder / f"logs/{name}.log"

    def _start(self, start: Callable[[], Component]) -> None:
        component = start()
        self._components[component.name] = component

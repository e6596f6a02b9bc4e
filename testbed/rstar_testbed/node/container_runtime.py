"""containerd on the node: its configuration, the pods' network, the import of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from rstar_testbed.addresses import Addresses
from rstar_testbed.errors import TestbedError
from rstar_testbed.node.namespaces import Namespaces
from rstar_testbed.node.oci import PAUSE
from rstar_testbed.node.packages import check_packages
from rstar_testbed.processes import Component

SOCKET: Final = "/run/containerd/containerd.sock"
_SECONDS: Final = 60.0


def start_containerd(namespaces: Namespaces, addresses: Addresses, registry: str) -> Component:
    """Start containerd in the node's namespaces and return when it answers; ``registry`` (HOST:PORT) speaks plain HTTP."""
    plugins = check_packages()
    folder = namespaces.folder
    networks = folder / "cni"
    networks.mkdir()
    (networks / "10-pods.conflist").write_text(json.dumps(_pod_network(addresses)))
    configuration = folder / "containerd.toml"
    values = {"plugins": plugins, "networks": networks, "pause": PAUSE, "socket": SOCKET, "registry": registry}
    configuration.write_text(_CONFIGURATION.format(**values))
    component = Component(
        "containerd",
        namespaces.command("containerd", "--config", configuration),
        folder.parent / "logs/containerd.log",
    )
    await_containerd(component, namespaces)
    return component


def await_containerd(component: Component, namespaces: Namespaces) -> None:
    """Return once containerd answers: a kubelet that starts before it ends at once."""
    component.wait_until(lambda: _answers(namespaces), _SECONDS)


def import_image(namespaces: Namespaces, archive: Path) -> None:
    """Make the images of an OCI archive known to the node under their full names."""
    # No copies for other platforms, and unpacked at once: the first pod would wait for it.
    namespaces.run("ctr", "--namespace=k8s.io", "images", "import", "--no-unpack=false", archive)


def _answers(namespaces: Namespaces) -> bool:
    try:
        namespaces.run("ctr", "version")
    except TestbedError:
        return False
    return True


def _pod_network(addresses: Addresses) -> dict[str, object]:
    """Return the CNI configuration: every pod has a link of its own to the node, which routes between them.

    With a bridge, a reply between two pods would not pass the node, and the translation of a Service's address could not
    be undone.
    """
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": addresses.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


_CONFIGURATION: Final = """\
version = 2
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # A container's processes may not be protected from the kernel's OOM killer more than containerd itself is.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."{registry}"]
    endpoint = ["http://{registry}"]
"""

"""What a cluster has beside its components: DNS, the metrics API and a storage class, as pods and objects of the node."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from rstar_testbed.control_plane import ControlPlane
from rstar_testbed.modules import MODULES
from rstar_testbed.node.components import CLUSTER_DOMAIN, NODE
from rstar_testbed.node.container_runtime import import_image
from rstar_testbed.node.namespaces import Namespaces
from rstar_testbed.node.oci import REGISTRY, program_image

Apply = Callable[[str], object]

_MANIFESTS: Final = Path(__file__).parent / "manifests"
_VOLUMES: Final = 4
_VOLUME_SIZE: Final = "20Gi"
_VOLUME_FOLDER: Final = "/var/lib/volumes"
DEPLOYMENTS: Final = ("coredns", "metrics-server")
"""Deployments of kube-system."""


def install_addons(plane: ControlPlane, namespaces: Namespaces, binaries: Mapping[str, Path], apply: Apply) -> None:
    """Import the add-ons' images and apply their manifests; do not wait for their pods."""
    documents = [(_MANIFESTS / "volumes.yaml").read_text(), *map(yaml.safe_dump, _local_volumes(namespaces))]
    for name in DEPLOYMENTS:
        image = f"{REGISTRY}/{name}:{_version(name)}"
        import_image(namespaces, program_image(namespaces.folder / f"{name}.tar", image, binaries[name]))
        values = {"IMAGE": image, "CLUSTER_DNS": plane.addresses.cluster_dns, "CLUSTER_DOMAIN": CLUSTER_DOMAIN}
        documents.append(string.Template((_MANIFESTS / f"{name}.yaml").read_text()).substitute(values))
    apply("\n---\n".join(documents))


def available(plane: ControlPlane, namespace: str, name: str) -> bool:
    """Return whether a Deployment has all the pods it wants, ready."""
    found = plane.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    return found is not None and found["status"].get("readyReplicas", 0) >= found["spec"]["replicas"]


def _version(name: str) -> str:
    return next(module.version for module in MODULES if module.name == name)


def _local_volumes(namespaces: Namespaces) -> list[dict[str, Any]]:
    paths = [f"{_VOLUME_FOLDER}/{number}" for number in range(1, _VOLUMES + 1)]
    namespaces.run("mkdir", "--parents", "--mode=0777", *paths)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"local-{number}"},
            "spec": {
                "capacity": {"storage": _VOLUME_SIZE},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "local",
                "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
        for number, path in enumerate(paths, 1)
    ]

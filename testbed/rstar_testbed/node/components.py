"""kubelet, kube-proxy and the scheduler: their configuration and their start."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rstar_testbed.certificates import issue
from rstar_testbed.control_plane import ControlPlane
from rstar_testbed.node.container_runtime import SOCKET
from rstar_testbed.node.namespaces import Namespaces
from rstar_testbed.processes import Component, free_port

NODE: Final = "node-1"
CLUSTER_DOMAIN: Final = "cluster.local"
KUBELET_PORT: Final = 10250
_SECONDS: Final = 120.0


def start_scheduler(plane: ControlPlane, binaries: Mapping[str, Path]) -> Component:
    """Start the scheduler beside the API server, on loopback."""
    kubeconfig = plane.write_user(plane.folder / "scheduler.kubeconfig", "system:kube-scheduler")
    return Component(
        "kube-scheduler",
        [
            binaries["kube-scheduler"],
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
        ],
        plane.folder / "logs/kube-scheduler.log",
    )


def start_kubelet(plane: ControlPlane, namespaces: Namespaces, binaries: Mapping[str, Path]) -> Component:
    """Start the kubelet on the node and return when the node is ready for pods."""
    addresses, folder = plane.addresses, namespaces.folder
    serving = issue(plane.authority, NODE, hosts=(addresses.node, NODE))
    (folder / "kubelet.crt").write_bytes(serving.certificate_pem)
    (folder / "kubelet.key").write_bytes(serving.key_pem)
    (folder / "ca.crt").write_bytes(plane.authority.certificate_pem)
    (folder / "resolv.conf").write_text("")  # Names outside the cluster do not exist for pods.
    namespaces.make_cgroups()
    configuration = _write(folder / "kubelet.json", _kubelet_configuration(plane, namespaces))
    kubeconfig = plane.write_user(folder / "kubelet.kubeconfig", f"system:node:{NODE}", ("system:nodes",))
    component = Component(
        "kubelet",
        namespaces.command(
            binaries["kubelet"],
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NODE}",
            f"--node-ip={addresses.node}",
        ),
        plane.folder / "logs/kubelet.log",
    )
    component.wait_until(lambda: _is_ready(plane), _SECONDS)
    return component


def await_kubelet(component: Component, plane: ControlPlane) -> None:
    """Return once the kubelet serves; its node may be ready in the API server's eyes from before."""

    def serves() -> bool:
        try:
            socket.create_connection((plane.addresses.node, KUBELET_PORT), timeout=1).close()
        except OSError:
            return False
        return True

    component.wait_until(serves, _SECONDS)


def start_kube_proxy(plane: ControlPlane, namespaces: Namespaces, binaries: Mapping[str, Path]) -> Component:
    """Start kube-proxy on the node: Services get their rules."""
    kubeconfig = plane.write_user(namespaces.folder / "kube-proxy.kubeconfig", "system:kube-proxy")
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": plane.addresses.pods,
        "hostnameOverride": NODE,
        # Settings of the machine's kernel that a namespace cannot change.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }
    return Component(
        "kube-proxy",
        namespaces.command(
            binaries["kube-proxy"], f"--config={_write(namespaces.folder / 'kube-proxy.json', configuration)}"
        ),
        plane.folder / "logs/kube-proxy.log",
    )


def _kubelet_configuration(plane: ControlPlane, namespaces: Namespaces) -> dict[str, Any]:
    folder = namespaces.folder
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plane.addresses.node,
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(folder / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(folder / "kubelet.crt"),
        "tlsPrivateKeyFile": str(folder / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{namespaces.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [plane.addresses.cluster_dns],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(folder / "resolv.conf"),
        # The disk is the machine's: another program that fills it must not evict the pods of a test.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        # The default of 5 requests per second delays the start of many pods.
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }


def _is_ready(plane: ControlPlane) -> bool:
    node = plane.request("GET", f"/api/v1/nodes/{NODE}")
    conditions = node["status"].get("conditions", []) if node else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=1))
    return path

"""The Node object of the test kubelet, with room for every pod, and the lease that keeps it Ready."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from typing import Any, Final

import aiohttp

from rstar_testbed.kubelet.api import Api, ApiError
from rstar_testbed.kubelet.lifecycle import now

_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RENEW_SECONDS: Final = 10.0
_CAPACITY: Final = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "10000", "nvidia.com/gpu": "64"}


def node(name: str, at: str) -> dict[str, Any]:
    """Return the Node object."""
    healthy = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "the test kubelet runs",
        "lastHeartbeatTime": at,
        "lastTransitionTime": at,
    }
    return {
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {
            "capacity": _CAPACITY,
            "allocatable": _CAPACITY,
            "conditions": [healthy],
            "nodeInfo": {
                "kubeletVersion": "rstar-testbed",
                "containerRuntimeVersion": "rstar-testbed://1",
                "architecture": "",
                "bootID": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }


async def register(api: Api, name: str) -> None:
    """Create the node as Ready."""
    wanted = node(name, now())
    await api.call("POST", "/api/v1/nodes", wanted)
    await api.patch(f"/api/v1/nodes/{name}/status", {"status": wanted["status"]})
    await api.call("POST", _LEASES, {"metadata": {"name": name}, "spec": _lease(name)})


async def keep_alive(api: Api, name: str) -> None:
    """Renew the lease for ever; without it Kubernetes evicts the node's pods."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await api.patch(f"{_LEASES}/{name}", {"spec": _lease(name)})


async def unregister(api: Api, name: str) -> None:
    """Delete the node, if the API server still runs."""
    for path in (f"/api/v1/nodes/{name}", f"{_LEASES}/{name}"):
        with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
            await api.call("DELETE", path)


def _lease(name: str) -> dict[str, Any]:
    renewed = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed}

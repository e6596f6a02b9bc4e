"""Containers on a real node: pods of the charts' security settings, and how a container's process 1 ends at SIGTERM."""

from __future__ import annotations

import json
from typing import Any

from rstar_testbed.cluster import Testbed

from rstar.cluster.api import Json
from tests.support.cluster.pods import pod, wait_until

_TERMINATE = "import os, signal; os.kill(1, signal.SIGTERM)"


def restricted_pod(name: str, image: str, *command: str, **container: Any) -> Json:
    """Return a pod that Kubernetes' restricted profile allows, with a read-only root and folders /tmp and /cache."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    folders = ("tmp", "cache")
    mounts = [{"name": folder, "mountPath": f"/{folder}"} for folder in folders]
    own = {"image": image, "command": list(command), "securityContext": security, "volumeMounts": mounts}
    volumes = [{"name": folder, "emptyDir": {}} for folder in folders]
    # Its group may write to the volumes, as in the charts' pods.
    return pod(name, container=own | container, volumes=volumes, securityContext={"fsGroup": 10001})


def code_at_sigterm(bed: Testbed, namespace: str, deployment: str, seconds: float = 600.0) -> int:
    """Send SIGTERM to process 1 of a Deployment's pod; return its exit code once the pod has started it again and is ready.

    A signal that process 1 does not handle is discarded by the kernel.
    """
    name = _pods_of(bed, namespace, deployment)[0]["metadata"]["name"]
    bed.kubectl("exec", name, "-n", namespace, "--", "python", "-c", _TERMINATE)

    def restarted() -> Json | None:
        found = json.loads(bed.kubectl("get", "pod", name, "-n", namespace, "-o", "json"))
        [status] = found["status"]["containerStatuses"]
        return status["lastState"].get("terminated") if status["ready"] else None  # type: ignore[no-any-return]

    return int(wait_until(restarted, f"another start of process 1 in {name}", seconds)["exitCode"])


def _pods_of(bed: Testbed, namespace: str, deployment: str) -> list[Json]:
    labels = bed.kubectl(
        "get", "deployment", deployment, "-n", namespace, "-o", "jsonpath={.spec.selector.matchLabels}"
    )
    selector = ",".join(f"{key}={value}" for key, value in json.loads(labels).items())
    found = bed.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
    items: list[Json] = json.loads(found)["items"]
    return items

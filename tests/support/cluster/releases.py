"""Helm releases on a real API server: install them as some user, and read what they installed."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from rstar_testbed.cluster import Testbed

Data = dict[str, Any]

WITHOUT_PROMETHEUS: Final = "--set=metrics.serviceMonitor.enabled=false,metrics.rules.enabled=false"
"""Helm's option for a cluster without the Prometheus operator."""
HELMS: Final = ("helm", "helm4")
"""The testbed's programs of Helm 3 and Helm 4."""


def new_name(prefix: str) -> str:
    """Return a name that no other object has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def new_namespace(bed: Testbed, *labels: str, name: str = "") -> str:
    name = name or new_name("test")
    bed.kubectl("create", "namespace", name)
    bed.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=180s")
    if labels:
        bed.kubectl("label", "namespace", name, *labels)
    return name


@contextlib.contextmanager
def temporary_namespace(bed: Testbed, *labels: str) -> Iterator[str]:
    """Create a namespace that has its default ServiceAccount, and delete it at the end without waiting."""
    name = new_namespace(bed, *labels)
    yield name
    bed.kubectl("delete", "namespace", name, "--wait=false")


def install(bed: Testbed, chart: Path, name: str, namespace: str, values: str, *more: str, **options: Any) -> str:
    file = chart / "ci" / f"{values}-values.yaml"
    # An uninstalled release leaves its CRD.
    own = ("--take-ownership",) if values in {"dev", "operator"} else ()
    return bed.helm("upgrade", "--install", name, str(chart), "-n", namespace, "-f", str(file), *own, *more, **options)


def installed(bed: Testbed, release: str, namespace: str) -> dict[tuple[str, str], Data]:
    """Return the objects of a release, without the fields that the cluster writes."""
    documents = yaml.safe_load_all(bed.helm("get", "manifest", release, "-n", namespace))
    found = json.loads(bed.kubectl("get", "-o", "json", "-f", "-", input=yaml.safe_dump_all(documents)))
    objects = {}
    for item in found["items"]:
        for key in ("resourceVersion", "managedFields"):
            item["metadata"].pop(key, None)
        item["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
        item.pop("status", None)
        objects[item["kind"], item["metadata"]["name"]] = item
    return objects


def of_release(bed: Testbed, release: str) -> set[str]:
    kinds = bed.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    chosen = ",".join(kind for kind in kinds if not kind.startswith(("events", "pods", "replicasets", "endpoint")))
    found = bed.kubectl("get", chosen, "-A", "-l", f"app.kubernetes.io/instance={release}", "-o", "name")
    return set(found.split())


def bind(bed: Testbed, namespace: str, user: str, role: str) -> Path:
    bed.kubectl("create", "rolebinding", f"{user}-{role}", "-n", namespace, f"--clusterrole={role}", f"--user={user}")
    return bed.user_kubeconfig(user)


def secret(bed: Testbed, name: str, namespace: str) -> dict[str, str]:
    data = json.loads(bed.kubectl("get", "secret", name, "-n", namespace, "-o", "json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}

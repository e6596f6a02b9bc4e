"""Pods for tests of the testbed, and access to the test's own namespace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Pod

T = TypeVar("T")

SECONDS = 180.0
"""The longest wait for one change: many times what an idle machine takes, because a busy one takes ten times as long."""


def wait_until(look: Callable[[], T | None], what: str, seconds: float = SECONDS) -> T:
    """Return what ``look`` returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
    return found


class NamespaceClient:
    """Access to the test's own namespace."""

    def __init__(self, bed: Testbed, namespace: str) -> None:
        self.bed = bed
        self.namespace = namespace

    def apply(self, *objects: dict[str, Any]) -> None:
        self.bed.kubectl("apply", "-n", self.namespace, "-f", "-", input=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        text = self.bed.kubectl("get", kind, name, "-n", self.namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def pod_in(self, name: str, *phases: str, seconds: float = SECONDS) -> Pod:
        def look() -> Pod | None:
            pod = self.get("pod", name)
            return pod if pod and pod["status"].get("phase") in phases else None

        return wait_until(look, f"pod {name} {' or '.join(phases)}", seconds)


def pod(name: str, script: str = "true", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "none", "command": ["bash", "-c", script], **spec.pop("container", {})}
    body = {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body}


def terminated_state(found: Pod) -> dict[str, Any]:
    state: dict[str, Any] = found["status"]["containerStatuses"][0]["state"]["terminated"]
    return state

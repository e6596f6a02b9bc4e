"""The node itself: what every cluster gives its pods, and what is left of it at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import TestbedError

from tests.e2e.conftest import UseImages
from tests.support.cluster.pods import NamespaceClient, pod, wait_until

REACH = """\
import socket, sys
for name in ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "site"):
    address = socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0]
    port = 80 if name == "site" else 443
    socket.create_connection((address, port), timeout=20).close()
    print(name, "reached")
try:
    socket.getaddrinfo("example.com", None)
except OSError:
    print("no name outside the cluster")
"""
SERVE = "import http.server; http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture
def client(testbed: Testbed, namespace: str) -> NamespaceClient:
    return NamespaceClient(testbed, namespace)


def python_pod(name: str, image: str, program: str) -> dict[str, object]:
    container = {"image": image, "command": ["python", "-c", program], "resources": {"requests": {"cpu": "10m"}}}
    return pod(name, container=container)


def test_pods_reach_services_by_name_and_the_machine_reads_their_logs(
    client: NamespaceClient, use_images: UseImages
) -> None:
    image = use_images("operator")["operator"]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "site"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    client.apply(service, python_pod("web", image, SERVE))
    bed, where = client.bed, ("-n", client.namespace)
    bed.kubectl("wait", "--for=condition=Ready", "pod/web", *where, "--timeout=300s")
    wait_until(
        lambda: "8080" in bed.kubectl("get", "endpointslices", *where, "-o", "yaml"), "the Service has an endpoint"
    )
    client.apply(python_pod("caller", image, REACH))
    client.pod_in("caller", "Succeeded")
    lines = bed.kubectl("logs", "caller", *where).splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["reached"] * 3
    assert lines[3] == "no name outside the cluster"
    assert "200" in bed.kubectl(
        "exec", "web", *where, "--", "python", "-c",
        "import urllib.request; print(urllib.request.urlopen('http://site').status)",
    )  # fmt: skip


def test_the_metrics_api_reports_the_use_of_pods(testbed: Testbed) -> None:
    def metrics() -> bool:
        return "coredns" in testbed.kubectl("top", "pods", "-n", "kube-system", check=False)

    wait_until(metrics, "kubectl top shows CoreDNS")


def test_a_claim_gets_a_volume_that_a_pod_without_root_may_write(
    client: NamespaceClient, use_images: UseImages
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    writer = python_pod("writer", use_images("operator")["operator"], "print(open('/data/x', 'w').write('kept'))")
    spec = writer["spec"]
    assert isinstance(spec, dict)
    spec["securityContext"] = {"runAsUser": 10001, "fsGroup": 10001}
    spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    client.apply(claim, writer)
    client.pod_in("writer", "Succeeded")


def test_after_a_loss_of_power_the_node_runs_its_pods_again(client: NamespaceClient, use_images: UseImages) -> None:
    assert client.bed.node is not None
    server = python_pod("web", use_images("operator")["operator"], SERVE)
    spec = server["spec"]
    assert isinstance(spec, dict)
    spec["restartPolicy"] = "Always"
    once = python_pod("once", use_images("operator")["operator"], "import time; time.sleep(3600)")
    client.apply(server, once)
    for name in ("web", "once"):
        client.bed.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", client.namespace, "--timeout=300s")
    client.bed.node.restart()
    client.pod_in("once", "Failed")

    def again() -> bool:
        [status] = client.pod_in("web", "Running")["status"]["containerStatuses"]
        return bool(status["restartCount"] and status["ready"])

    wait_until(again, "the server runs again")


def test_a_second_node_on_the_machine_is_refused_in_one_sentence(testbed: Testbed, tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="another testbed with a node is up"):
        Testbed.start(tmp_path / "second", node=True, minio=False, training_operator=False)


def test_the_images_of_operator_and_executor_hold_no_torch_and_run_without_root(
    client: NamespaceClient, use_images: UseImages
) -> None:
    program = "import importlib.util as u, os; print(u.find_spec('torch'), os.getuid())"
    for name, image in use_images("operator", "executor").items():
        client.apply(python_pod(name, image, program))
        client.pod_in(name, "Succeeded")
        assert client.bed.kubectl("logs", name, "-n", client.namespace) == "None 10001\n"


def test_the_command_images_pushes_an_image_and_prints_helms_options(use_images: UseImages) -> None:
    registry, _, rest = use_images("operator")["operator"].partition("/")
    command = [sys.executable, "-m", "rstar_testbed", "images", "operator"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tag = f"built@{rest.partition('@')[2]}"
    assert printed.split() == [f"--set=images.registry={registry}", f"--set=images.operator.tag={tag}"]

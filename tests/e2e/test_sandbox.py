"""Executors alone as a sandbox on a real node: SandboxFusion's requests over HTTP, by key, behind a pod's restrictions."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from tests.e2e.conftest import UseImages
from tests.support.cluster.releases import install, temporary_namespace
from tests.support.paths import CHARTS

SMALL = (
    "--set=executor.slots=1,executor.autoscaling.enabled=false,executor.replicas=1,executor.maxMemoryMib=512",
    "--set=executor.resources.requests.cpu=200m,executor.resources.requests.memory=512Mi",
    "--set=executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
)


@pytest.fixture(scope="module")
def address(testbed: Testbed, use_images: UseImages) -> Iterator[str]:
    """The HTTP address of the only executor of a release with ``sandbox-values.yaml``."""
    with temporary_namespace(testbed, "pod-security.kubernetes.io/enforce=restricted") as name:
        testbed.kubectl("create", "secret", "generic", "sandbox-keys", "-n", name, "--from-literal=keys=trainer:secret")
        install(testbed, CHARTS / "rstar", "sandbox", name, "sandbox", *chart_options(use_images("executor")), *SMALL)
        testbed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", name, "--timeout=600s")
        chosen = ("-l", "app.kubernetes.io/component=executor", "-o", "json")
        [pod] = json.loads(testbed.kubectl("get", "pods", "-n", name, *chosen))["items"]
        yield f"{pod['status']['podIP']}:8080"
        testbed.helm("uninstall", "sandbox", "-n", name)


def run(address: str, code: str, key: str = "secret", **fields: Any) -> dict[str, Any]:
    body = json.dumps({"code": code, "language": "python", "compile_timeout": 60, **fields}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{address}/run_code", body, headers), timeout=120
    ) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def test_a_program_gets_its_input_and_its_files(address: str) -> None:
    encoded = base64.b64encode(b"in").decode()
    code = "print(input())\nopen('out', 'w').write(open('d/in').read())"
    reply = run(address, code, stdin="hello", files={"d/in": encoded}, fetch_files=["out"])
    assert (reply["status"], reply["run_result"]["stdout"], reply["files"]) == ("Success", "hello\n", {"out": encoded})
    assert reply["executor_pod_name"].startswith("rstar-executor-")


def test_a_program_with_sympy_runs(address: str) -> None:
    assert run(address, "import sympy\nprint(sympy.factorint(360))", run_timeout=60)["status"] == "Success"


def test_a_wrong_key_is_refused(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        run(address, "", key="other")
    assert caught.value.code == 401


def test_a_program_reads_no_secret_of_the_pod_and_reaches_no_network(address: str) -> None:
    for attack in (
        "print(open('/etc/rstar/http-keys/keys').read())",
        "import os; os.symlink('/etc/rstar/http-keys/keys', 'keys')",
        "import socket; socket.create_connection(('10.0.0.1', 443), timeout=3)",
    ):
        reply = run(address, attack, fetch_files=["keys"])
        assert "secret" not in json.dumps(reply)
        assert reply["files"] == {}
    assert run(address, "import socket; socket.socket()")["status"] == "Failed"

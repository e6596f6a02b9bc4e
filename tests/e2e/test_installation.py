"""The chart on a real node: images from a registry, restricted pods, ``helm test``."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError

from rstar.interfaces import ExecutionLimits, State
from rstar.rpc.clients import ExecutorClient
from tests.e2e.conftest import UseImages, installed_chart
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def release(testbed: Testbed, use_images: UseImages) -> Iterator[str]:
    """The namespace of a release with the documented values of a small cluster, where only restricted pods may run."""
    values = (f"--values={ROOT / 'charts/rstar/ci/dev-values.yaml'}", "--set=minio.enabled=false")
    restricted = ("pod-security.kubernetes.io/enforce=restricted",)
    with installed_chart(testbed, use_images, *values, labels=restricted) as name:
        yield name


def test_helm_test_runs_a_program_and_reports_that_policies_are_not_enforced(testbed: Testbed, release: str) -> None:
    # The CNI plugins of the testbed enforce no policies, so that the test pod's forbidden connection succeeds.
    with pytest.raises(CommandError, match="pod rstar-test-executor failed"):
        testbed.helm("test", "rstar", "-n", release, "--timeout=300s")
    log = testbed.kubectl("logs", "rstar-test-executor", "-n", release)
    assert "runs programs" in log
    # What stops the programs is the executor itself.
    assert "its programs cannot reach the network" in log
    assert "does the cluster enforce NetworkPolicies?" in log


REACH = """<code>
# Step 1
import os, socket
for host, port in {targets}:
    try:
        socket.create_connection((host, port), timeout=3).close()
        print(host, "reached")
    except OSError as error:
        print(host, error.errno)
try:
    print(socket.getaddrinfo("kubernetes.default.svc", 443))
except OSError:
    print("no names")
print(os.path.exists("/var/run/secrets/kubernetes.io"))
<end_of_step>"""


async def output_of(target: str, program: str) -> str:
    async with ExecutorClient([target]) as executor:
        found = await executor.execute(State("probe", "", ()), [program], ExecutionLimits(seconds=20))
        return found[0].stdout


async def test_a_program_in_an_executors_pod_reaches_nothing_and_has_no_token(testbed: Testbed, release: str) -> None:
    """The CNI plugins enforce no policies, and this process reaches the pod: only the executor's own ban is in the way."""

    def address(namespace: str, label: str) -> str:
        words = ("get", "pod", "-n", namespace, "-l", label, "-o", "jsonpath={.items[0].status.podIP}")
        return testbed.kubectl(*words)

    assert testbed.minio is not None
    executor = address(release, "app.kubernetes.io/component=executor")
    store = urlsplit(testbed.minio.endpoint)
    server = testbed.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    other = address("kube-system", "k8s-app=kube-dns")
    targets = [(server, 443), (store.hostname, store.port), (other, 53)]
    for host, port in targets:
        socket.create_connection((host, port), timeout=20).close()  # It is there for others.
    lines = (await output_of(f"{executor}:50053", REACH.format(targets=targets))).splitlines()
    assert len(lines) == len(targets) + 2
    assert not any("reached" in line for line in lines)
    assert lines[-2:] == ["no names", "False"]

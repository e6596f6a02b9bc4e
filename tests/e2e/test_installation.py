"""The chart on a real node: images from a registry, restricted pods, MinIO, ``helm test``, the end of its programs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.node.container_runtime import import_image
from rstar_testbed.node.oci import program_image

from rstar.interfaces import ExecutionLimits, State
from rstar.rpc.clients import ExecutorClient
from tests.e2e.conftest import UseImages, installed_chart
from tests.support.cluster.containers import code_at_sigterm, restricted_pod
from tests.support.cluster.pods import NamespaceClient
from tests.support.cluster.releases import secret
from tests.support.paths import ROOT

CHART = str(ROOT / "charts/rstar")


@pytest.fixture(scope="module")
def release(testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The namespace of a release with the documented values of a small cluster, where only restricted pods may run."""
    minio = import_minio(testbed, tmp_path_factory.mktemp("minio") / "image.tar")
    # What creates the bucket is in every image with the library: that of the stages is large.
    _, _, tag = use_images("operator")["operator"].partition("operator:")
    images = f"images.minio.tag={minio},images.jobs.repository=rstar/operator,images.jobs.tag={tag}"
    values = (f"--values={ROOT / 'charts/rstar/ci/dev-values.yaml'}", f"--set={images}")
    restricted = ("pod-security.kubernetes.io/enforce=restricted",)
    with installed_chart(testbed, use_images, *values, labels=restricted) as name:
        yield name


def import_minio(bed: Testbed, archive: Path) -> str:
    """Put the testbed's MinIO on the node as the image that the chart names, and return its tag.

    As built by testbed/minio.Dockerfile: ``minio`` is on the PATH.
    """
    assert bed.node is not None
    name, tag = f"{bed.node.registry.address}/rstar/minio", "testbed"
    image = program_image(archive, f"{name}:{tag}", bed.binaries["minio"], user="10001:10001")
    import_image(bed.node.namespaces, image)
    archive.unlink()
    return tag


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


STORE_AND_READ = """
import os
from rstar.store.open import open_store
store = open_store(os.environ["RSTAR_STORE"])
store.write("x", b"kept")
print(store.read("x").decode())
"""


def test_the_charts_minio_has_its_bucket_and_a_round_gets_its_keys(
    testbed: Testbed, release: str, use_images: UseImages
) -> None:
    testbed.kubectl("rollout", "status", "deployment/rstar-minio", "-n", release, "--timeout=600s")
    testbed.kubectl("wait", "--for=condition=Complete", "job", "--all", "-n", release, "--timeout=600s")
    assert secret(testbed, "rstar-storage", release)["RSTAR_STORE"] == f"s3://rstar/{release}"
    client = NamespaceClient(testbed, release)
    keys = [{"secretRef": {"name": "rstar-storage"}}]
    image = use_images("operator")["operator"]
    client.apply(restricted_pod("stage", image, "python", "-c", STORE_AND_READ, envFrom=keys))
    client.pod_in("stage", "Succeeded")
    assert testbed.kubectl("logs", "stage", "-n", release) == "kept\n"


def test_helm_test_succeeds_where_no_policies_are_wanted(testbed: Testbed, release: str) -> None:
    options = ("--reuse-values", "--set=networkPolicies.enabled=false")
    testbed.helm("upgrade", "rstar", CHART, "-n", release, *options)
    testbed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", release, "--timeout=600s")
    assert "Succeeded" in testbed.helm("test", "rstar", "-n", release, "--timeout=300s")


@pytest.mark.parametrize("name", ["rstar-executor", "rstar-operator"])
def test_a_program_of_the_chart_is_process_1_and_ends_with_code_0_at_sigterm(
    testbed: Testbed, release: str, name: str
) -> None:
    assert code_at_sigterm(testbed, release, name) == 0

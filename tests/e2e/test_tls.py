"""Executors of two tenants with mutual TLS on a real node: who may call them, probes, the key's permissions, a renewed Secret."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from rstar.interfaces import ExecutionLimits
from rstar.rpc.codec import execute_request
from rstar.rpc.tls import Pem, explain, open_channel
from rstar.v1 import executor_pb2_grpc
from tests.e2e.conftest import UseImages
from tests.support.certificates import Authority, secret_options, shown
from tests.support.cluster.pods import wait_until
from tests.support.cluster.releases import install, temporary_namespace
from tests.support.paths import CHARTS
from tests.support.states import START

SMALL = (
    "--set=executor.slots=1,executor.autoscaling.enabled=false,executor.replicas=1,executor.maxMemoryMib=512",
    "--set=executor.resources.requests.cpu=200m,executor.resources.requests.memory=512Mi",
    "--set=executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
    "--set=tls.certManager.enabled=false",
)
RENEWAL_SECONDS = 600.0
"""Kubelet looks at Secrets about once a minute, and later on a busy machine."""


@dataclass(frozen=True)
class Release:
    """A namespace with one executor, the authority of its certificate, the certificate, and the executor's address."""

    namespace: str
    authority: Authority
    pem: Pem
    executor: str


@contextlib.contextmanager
def installed(bed: Testbed, use_images: UseImages, folder: Path) -> Iterator[Release]:
    authority = Authority(folder.name)
    pem = authority.issue()
    files = secret_options(folder, pem)
    with temporary_namespace(bed, "pod-security.kubernetes.io/enforce=restricted") as name:
        bed.kubectl("create", "secret", "generic", "rstar-tls", "-n", name, *files)
        install(bed, CHARTS / "rstar", "rstar", name, "tls", *chart_options(use_images("executor")), *SMALL)
        bed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", name, "--timeout=600s")
        chosen = ("-l", "app.kubernetes.io/component=executor", "-o", "json")
        [pod] = json.loads(bed.kubectl("get", "pods", "-n", name, *chosen))["items"]
        yield Release(name, authority, pem, f"{pod['status']['podIP']}:50053")
        bed.helm("uninstall", "rstar", "-n", name)


@pytest.fixture(scope="module")
def releases(
    testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Release, Release]]:
    """Two tenants with a CA each."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("tenant-a", "tenant-b"))
    with installed(testbed, use_images, first) as one, installed(testbed, use_images, second) as two:
        yield one, two


@pytest.fixture
def release(releases: tuple[Release, Release]) -> Release:
    """The first tenant."""
    return releases[0]


async def execute(address: str, pem: Pem | None) -> str:
    """Run a program over a new connection; return its output, or the sentence of the failure."""
    async with open_channel(address, pem) as channel:
        stub: executor_pb2_grpc.ExecutorServiceAsyncStub = executor_pb2_grpc.ExecutorServiceStub(channel)
        try:
            reply = await stub.Execute(execute_request(START, ["print(6 * 7)"], ExecutionLimits(seconds=10)))
        except grpc.aio.AioRpcError as error:
            return explain(error.details() or "", tls=pem is not None)
        return reply.executions[0].stdout


async def test_a_tenant_cannot_call_the_executors_of_another(releases: tuple[Release, Release]) -> None:
    for own, other in (releases, reversed(releases)):
        assert await execute(own.executor, own.pem) == "42\n"
        # It trusts the other's CA, so that the refusal is the server's.
        forged = Pem(other.pem.certificate, other.pem.key, own.pem.ca)
        assert "as for a client certificate of another CA" in await execute(own.executor, forged)
        assert "does not verify" in await execute(own.executor, other.pem)
        assert "as for a client without TLS" in await execute(own.executor, None)


def test_helm_test_calls_an_executor_that_kubelet_probes_without_tls(testbed: Testbed, release: Release) -> None:
    assert "Succeeded" in testbed.helm("test", "rstar", "-n", release.namespace, "--timeout=300s")


def test_only_the_pods_user_and_group_can_read_the_key(testbed: Testbed, release: Release) -> None:
    words = ("exec", "-n", release.namespace, "deployment/rstar-executor", "--")
    look = "import os; print(oct(os.stat('/etc/rstar-tls/tls.key').st_mode & 0o777))"
    assert testbed.kubectl(*words, "python", "-c", look).strip() == "0o440"


def test_a_renewed_secret_reaches_a_running_executor(testbed: Testbed, release: Release, tmp_path: Path) -> None:
    renewed = release.authority.issue()
    files = secret_options(tmp_path, renewed)
    words = (
        "create",
        "secret",
        "generic",
        "rstar-tls",
        "-n",
        release.namespace,
        *files,
        "--dry-run=client",
        "-o",
        "json",
    )
    testbed.kubectl("replace", "-f", "-", input=testbed.kubectl(*words))

    def look() -> bool:
        time.sleep(1)
        return shown(release.executor) == renewed.certificate

    wait_until(look, "the executor shows the renewed certificate", RENEWAL_SECONDS)
    pods = testbed.kubectl(
        "get", "pods", "-n", release.namespace, "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"
    )
    assert set(pods.split()) == {"0"}

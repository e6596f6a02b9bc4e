"""The chart's executors with mutual TLS as real processes, in two namespaces with a CA each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, always_real

from rstar.interfaces import ExecutionLimits
from rstar.rpc.codec import execute_request
from rstar.rpc.tls import Pem, explain, open_channel
from rstar.v1 import executor_pb2_grpc
from tests.support.certificates import Authority, secret_options
from tests.support.cluster.pods import needs_root
from tests.support.cluster.releases import install, temporary_namespace
from tests.support.cluster.rendering import CHARTS
from tests.support.states import START

pytestmark = needs_root

GIVEN = "--set=executor.slots=1,executor.autoscaling.enabled=false,executor.replicas=1,tls.certManager.enabled=false"


@dataclass(frozen=True)
class Tenant:
    """A namespace with an executor, and the certificate of its Secret."""

    namespace: str
    pem: Pem
    executor: str


@pytest.fixture(scope="module")
def tenants(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Tenant]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(tenant(testbed, tmp_path_factory.mktemp(name), Authority(name)))
            for name in ("tenant-a", "tenant-b")
        ]


@contextlib.contextmanager
def tenant(bed: Testbed, folder: Path, authority: Authority) -> Iterator[Tenant]:
    pem = authority.issue()
    files = secret_options(folder / "secret", pem)
    with temporary_namespace(bed) as name:
        bed.kubectl("create", "secret", "generic", "rstar-tls", "-n", name, *files)
        with Kubelet(bed.kubeconfig, always_real, namespace=name, folder=folder / "kubelet"):
            install(bed, CHARTS / "rstar", "rstar", name, "tls", GIVEN)
            bed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", name, "--timeout=600s")
            chosen = ("-l", "app.kubernetes.io/component=executor", "-o", "jsonpath={.items[0].status.podIP}")
            yield Tenant(name, pem, f"{bed.kubectl('get', 'pods', '-n', name, *chosen)}:50053")


async def execute(address: str, pem: Pem | None) -> str:
    """Run a program over a new connection; return its output, or the sentence of the failure."""
    async with open_channel(address, pem) as channel:
        stub: executor_pb2_grpc.ExecutorServiceAsyncStub = executor_pb2_grpc.ExecutorServiceStub(channel)
        try:
            reply = await stub.Execute(execute_request(START, ["print(6 * 7)"], ExecutionLimits(seconds=10)))
        except grpc.aio.AioRpcError as error:
            return explain(error.details() or "", tls=pem is not None)
        return reply.executions[0].stdout


def test_helm_test_calls_the_executors_with_the_certificate(testbed: Testbed, tenants: list[Tenant]) -> None:
    assert "Succeeded" in testbed.helm("test", "rstar", "-n", tenants[0].namespace, "--timeout=600s")


async def test_a_tenant_cannot_call_the_executors_of_another(tenants: list[Tenant]) -> None:
    for own, other in (tenants, reversed(tenants)):
        assert await execute(own.executor, own.pem) == "42\n"
        # It trusts the other's CA, so that the refusal is the server's.
        forged = Pem(other.pem.certificate, other.pem.key, own.pem.ca)
        assert "as for a client certificate of another CA" in await execute(own.executor, forged)
        assert "does not verify" in await execute(own.executor, other.pem)
        assert "as for a client without TLS" in await execute(own.executor, None)

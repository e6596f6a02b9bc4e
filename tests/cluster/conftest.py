"""A real control plane for all tests of a session, and for each test a namespace and a kubelet.

The first run builds the control plane's programs, which takes minutes. Run by ``make test-cluster``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import ChooseBehaviour, Kubelet

from tests.support.cluster.chart_operator import chart_operator
from tests.support.cluster.pods import NamespaceClient
from tests.support.cluster.releases import temporary_namespace
from tests.support.cluster.round_namespace import RoundNamespace, new_round_namespace

StartKubelet = Callable[[ChooseBehaviour], Kubelet]

TIMEOUT = 900.0
"""Seconds for a test without a time of its own: a safety net, far above what a busy machine takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with training-operator and MinIO."""
    with Testbed.start(tmp_path_factory.mktemp("testbed")) as bed:
        yield bed


@pytest.fixture
def namespace(testbed: Testbed) -> Iterator[str]:
    """A new namespace that has its default ServiceAccount."""
    with temporary_namespace(testbed) as name:
        yield name


@pytest.fixture
def client(testbed: Testbed, namespace: str) -> NamespaceClient:
    """Return a client of the test's own namespace."""
    return NamespaceClient(testbed, namespace)


@pytest.fixture
def kubelet(testbed: Testbed, namespace: str) -> Iterator[StartKubelet]:
    """Start a test kubelet for the test's namespace: ``kubelet(choose)``; it is stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda choose: stack.enter_context(Kubelet(testbed.kubeconfig, choose, namespace=namespace))


@pytest.fixture(scope="module")
def operator(testbed: Testbed) -> Iterator[str]:
    """The chart's operator for the whole cluster, for the tests of a module; its user name."""
    with chart_operator(testbed) as user:
        yield user


@pytest.fixture
def rounds(testbed: Testbed, operator: str) -> Iterator[RoundNamespace]:
    """A namespace of the test's own, in which rounds run."""
    with new_round_namespace(testbed) as rounds:
        yield rounds

"""One real control plane for all tests of a session, a namespace per test, and a kubelet that plays its pods.

The first run builds the control plane's programs, which takes minutes. Run by ``make test-cluster``.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import ChooseBehaviour, Kubelet

from tests.support.cluster.lab import Lab, chart_operator, open_lab
from tests.support.cluster.pods import Cluster

StartKubelet = Callable[..., Kubelet]


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with training-operator and MinIO."""
    with Testbed.start(tmp_path_factory.mktemp("testbed")) as bed:
        yield bed


@pytest.fixture
def namespace(testbed: Testbed) -> Iterator[str]:
    """A fresh namespace whose default ServiceAccount is there."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    testbed.kubectl("create", "namespace", name)
    testbed.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    yield name
    testbed.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def cluster(testbed: Testbed, namespace: str) -> Cluster:
    """Return the test's own namespace, to look at."""
    return Cluster(testbed, namespace)


@pytest.fixture
def kubelet(testbed: Testbed, namespace: str, tmp_path: Path) -> Iterator[StartKubelet]:
    """Start a test kubelet for the test's namespace: ``kubelet(player)``; it is stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(player: ChooseBehaviour) -> Kubelet:
            folder = tmp_path / f"kubelet-{uuid.uuid4().hex[:4]}"
            return stack.enter_context(Kubelet(testbed.kubeconfig, player, namespace=namespace, folder=folder))

        yield start


@pytest.fixture(scope="module")
def operator(testbed: Testbed) -> Iterator[str]:
    """The chart's operator, serving the whole cluster while the tests of a module run; return its user name."""
    with chart_operator(testbed) as user:
        yield user


@pytest.fixture
def lab(testbed: Testbed, operator: str) -> Iterator[Lab]:
    """A namespace of the test's own, where rounds run."""
    with open_lab(testbed) as lab:
        yield lab

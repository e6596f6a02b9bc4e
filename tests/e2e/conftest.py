"""One real node for all tests of a session, and the project's images in its registry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import Builder, chart_options, report_to_stderr

from tests.support.cluster.releases import temporary_namespace
from tests.support.paths import ROOT

TIMEOUT = 1_800.0
"""Seconds for a test without a time of its own: a safety net; the first one may have to build an image."""

TAG = "e2e"

UseImages = Callable[..., dict[str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with a node, training-operator and MinIO."""
    with Testbed.start(tmp_path_factory.mktemp("testbed"), node=True) as bed:
        yield bed


@pytest.fixture(scope="session")
def use_images(testbed: Testbed) -> UseImages:
    """Build images and push them to the node's registry: ``use_images("executor")``, each full name with its digest."""
    pushed: dict[str, str] = {}
    builder = Builder(report_to_stderr)

    def use(*names: str) -> dict[str, str]:
        missing = [name for name in names if name not in pushed]
        builder.build(missing)
        assert testbed.node is not None
        for name in missing:
            pushed[name] = builder.push(name, testbed.node.registry.address, TAG)
        return {name: pushed[name] for name in names}

    return use


@contextlib.contextmanager
def installed_chart(bed: Testbed, use_images: UseImages, *options: str, labels: tuple[str, ...] = ()) -> Iterator[str]:
    """Install the chart with operator and executors in a new namespace, which is yielded once both run."""
    with temporary_namespace(bed, *labels) as name:
        images = chart_options(use_images("operator", "executor"))
        chart = str(ROOT / "charts/rstar")
        # An uninstalled chart leaves its CRDs, so that an earlier test's may exist.
        bed.helm("install", "rstar", chart, "-n", name, "--take-ownership", *images, *options)
        for deployment in ("rstar-operator", "rstar-executor"):
            bed.kubectl("rollout", "status", f"deployment/{deployment}", "-n", name, "--timeout=600s")
        yield name
        bed.helm("uninstall", "rstar", "-n", name)


@pytest.fixture
def namespace(testbed: Testbed) -> Iterator[str]:
    """A new namespace."""
    with temporary_namespace(testbed) as name:
        yield name

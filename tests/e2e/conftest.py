"""One real node for all tests of a session, and the project's images in its registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import Builder, chart_options, report_to_stderr

from tests.support.cluster.releases import temporary_namespace
from tests.support.paths import ROOT

TIMEOUT = 1_800.0
"""Seconds for a test without a time of its own: a safety net; the first one may have to build an image."""

TAG = "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with a node, training-operator and MinIO."""
    with Testbed.start(tmp_path_factory.mktemp("testbed"), node=True) as bed:
        yield bed


class UseImages:
    """Builds images and pushes them to the node's registry, each once: ``use_images("executor")`` gives full names with digests."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._builder = Builder(report_to_stderr)
        self._pushed: dict[str, str] = {}

    def __call__(self, *names: str) -> dict[str, str]:
        """Return the full names of the project's images."""
        missing = [name for name in names if name not in self._pushed]
        self._builder.build(missing)
        self._pushed |= {name: self._builder.push(name, self._registry, TAG) for name in missing}
        return {name: self._pushed[name] for name in names}

    def changed(self, name: str) -> str:
        """Return the full name of an image that differs from the project's by a file and so by its digest."""
        self(name)
        return self._builder.push_changed(name, self._registry, f"{TAG}-changed")


@pytest.fixture(scope="session")
def use_images(testbed: Testbed) -> UseImages:
    """The project's images in the node's registry."""
    assert testbed.node is not None
    return UseImages(testbed.node.registry.address)


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

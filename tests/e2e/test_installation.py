"""The chart on a real node: images from a registry, restricted pods, ``helm test``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError

from tests.e2e.conftest import UseImages
from tests.support.cluster.releases import new_namespace
from tests.support.e2e.images import image_values
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def release(testbed: Testbed, use_images: UseImages) -> Iterator[str]:
    """The namespace of a release with the documented values of a small cluster, where only restricted pods may run."""
    name = new_namespace(testbed, "pod-security.kubernetes.io/enforce=restricted")
    values = image_values(use_images("operator", "executor"))
    dev = ROOT / "charts/rstar/ci/dev-values.yaml"
    testbed.helm(
        "install",
        "rstar",
        str(ROOT / "charts/rstar"),
        "-n",
        name,
        f"--values={dev}",
        *values,
        "--set=minio.enabled=false",
    )
    for deployment in ("rstar-operator", "rstar-executor"):
        testbed.kubectl("rollout", "status", f"deployment/{deployment}", "-n", name, "--timeout=600s")
    yield name
    testbed.helm("uninstall", "rstar", "-n", name)
    testbed.kubectl("delete", "namespace", name, "--wait=false")


def test_helm_test_runs_a_program_and_reports_that_policies_are_not_enforced(testbed: Testbed, release: str) -> None:
    # The CNI plugins of the testbed enforce no policies, so that the test pod's forbidden connection succeeds.
    with pytest.raises(CommandError, match="pod rstar-test-executor failed"):
        testbed.helm("test", "rstar", "-n", release, "--timeout=300s")
    log = testbed.kubectl("logs", "rstar-test-executor", "-n", release)
    assert "runs programs" in log
    # What stops the programs is the executor itself.
    assert "its programs cannot reach the network" in log
    assert "does the cluster enforce NetworkPolicies?" in log

"""Executors with mutual TLS on a real node: kubelet's probes, the key's permissions, and a renewed Secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from tests.e2e.conftest import UseImages
from tests.support.certificates import Authority, secret_options, shown
from tests.support.cluster.pods import wait_until
from tests.support.cluster.releases import install, temporary_namespace
from tests.support.cluster.rendering import CHARTS

SMALL = (
    "--set=executor.slots=1,executor.autoscaling.enabled=false,executor.replicas=1,executor.maxMemoryMib=512",
    "--set=executor.resources.requests.cpu=300m,executor.resources.requests.memory=512Mi",
    "--set=executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
    "--set=tls.certManager.enabled=false",
)
RENEWAL_SECONDS = 600.0
"""Kubelet looks at Secrets about once a minute, and later on a busy machine."""


@dataclass(frozen=True)
class Release:
    """A namespace with one executor, the authority of its certificate, and the executor's address."""

    namespace: str
    authority: Authority
    executor: str


@pytest.fixture(scope="module")
def release(testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    authority = Authority()
    files = secret_options(tmp_path_factory.mktemp("secret"), authority.issue())
    with temporary_namespace(testbed, "pod-security.kubernetes.io/enforce=restricted") as name:
        testbed.kubectl("create", "secret", "generic", "rstar-tls", "-n", name, *files)
        install(testbed, CHARTS / "rstar", "rstar", name, "tls", *chart_options(use_images("executor")), *SMALL)
        testbed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", name, "--timeout=600s")
        chosen = ("-l", "app.kubernetes.io/component=executor", "-o", "json")
        [pod] = json.loads(testbed.kubectl("get", "pods", "-n", name, *chosen))["items"]
        yield Release(name, authority, f"{pod['status']['podIP']}:50053")
        testbed.helm("uninstall", "rstar", "-n", name)


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

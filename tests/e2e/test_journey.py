"""What a lab does on a real node: install, set a tenant up, apply the rounds of the Game of 24, read the results.

Every pod is a container of the project's images, scheduled by its requests, and all services have mutual TLS. ``rstar run``
runs the same rounds on a folder, without TLS.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from rstar.cluster.api import ROUNDS
from rstar.rounds.observed import STAGES
from rstar.store.s3_store import S3Store
from tests.e2e.conftest import UseImages
from tests.support.certificates import Authority, secret_options
from tests.support.cluster import real_rounds
from tests.support.cluster.pods import wait_until
from tests.support.cluster.real_rounds import RSTAR, Tenant
from tests.support.cluster.releases import new_name
from tests.support.cluster.rounds import status_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(real_rounds.SECONDS + 1_800)]

IMAGES = ("operator", "executor", "jobs", "policy", "ppm", "search")
NAMES = ["r1", "r2"]
SMALL = {
    **{name: {"cpu": "300m", "memory": "2Gi"} for name in ("policy", "ppm", "rollout", "evaluate", "select")},
    **{name: {"cpu": "1", "memory": "3Gi"} for name in ("trainPolicy", "trainPpm")},
    "search": {"cpu": "200m", "memory": "1Gi"},
}
"""Requests by which everything that runs at once fits on a node with two cores."""

EXECUTORS = (
    "--set=executor.slots=1,executor.autoscaling.maxReplicas=1,executor.maxMemoryMib=512",
    "--set=executor.resources.requests.cpu=300m,executor.resources.requests.memory=512Mi",
    "--set=executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
)

TLS = "--set=tls.enabled=true"


@dataclass(frozen=True)
class Journey:
    """The tenant's namespace and store after the rounds, and the folder in which ``rstar run`` ran the same."""

    tenant: Tenant
    store: S3Store
    folder: Path

    def rstar(self, *words: str) -> str:
        """Run ``rstar`` on this machine as the tenant's user and return its output."""
        command = [RSTAR, *words, "--namespace", self.tenant.namespace, "--kubeconfig", str(self.tenant.user)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def journey(testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Install everything and run two rounds, on the node and then on this machine."""
    folder = tmp_path_factory.mktemp("journey")
    here, rounds = folder / "store", folder / "rounds.yaml"
    bodies = [*yaml.safe_load_all(real_rounds.tiny_rounds(len(NAMES)))]
    for body in bodies:
        body["spec"]["cluster"] = {"resources": SMALL}
    rounds.write_text(yaml.safe_dump_all(bodies))
    real_rounds.make_games(here)
    base_model = real_rounds.start_base_model(here)
    images = use_images(*IMAGES)
    chart = chart_options(images)
    assert base_model.wait() == 0
    admin, namespace = new_name("rstar"), new_name("lab")
    certificate = secret_options(folder / "certificate", Authority(namespace).issue())
    testbed.kubectl("create", "namespace", admin)
    try:
        real_rounds.install_operator(testbed, admin, *chart, TLS)
        tenant = real_rounds.set_up_tenant(testbed, admin, namespace, f"--set=minioUser.image={images['jobs']}")
        tenant.kubectl("create", "secret", "generic", "rstar-tls", *certificate)
        real_rounds.install_executors(tenant, *chart, *EXECUTORS, TLS)
        real_rounds.wait_for_installation(tenant)
        store = real_rounds.fill_store(tenant, here)
        tenant.kubectl("apply", "-f", str(rounds))
        wait_until(lambda: phases(tenant) == ["Succeeded"] * len(NAMES), "all rounds succeed", real_rounds.SECONDS)
        with real_rounds.local_run(here, rounds, folder / "local.log") as local_run:
            assert local_run.wait() == 0, (folder / "local.log").read_text()
        yield Journey(tenant, store, here)
    finally:
        base_model.kill()
        for release in ("tenant", "rstar"):
            testbed.helm("uninstall", release, "-n", admin, "--ignore-not-found")
        testbed.kubectl("delete", "namespace", admin, namespace, "--wait=false", "--ignore-not-found")


def phases(tenant: Tenant) -> list[str]:
    """Return the rounds' phases. Fails the test with the pods and Events when one has failed."""
    found = {body["metadata"]["name"]: status_of(body) for body in tenant.api.list(ROUNDS, tenant.namespace)}
    result = [status.phase if (status := found.get(name)) else "" for name in NAMES]
    if "Failed" in result:
        pytest.fail(f"a round failed: {found}\n{tenant.kubectl('get', 'pods,events')}")
    return result


def test_rstar_run_writes_the_same_manifests_byte_for_byte(journey: Journey) -> None:
    keys = sorted(key for key in journey.store.list("rounds/") if key.endswith("/manifest.json"))
    assert len(keys) == len(STAGES) * len(NAMES)
    for key in keys:
        assert journey.store.read(key) == (journey.folder / key).read_bytes(), key


def test_status_and_logs_are_readable_from_outside(journey: Journey) -> None:
    status = journey.rstar("status")
    assert all(name in status for name in NAMES)
    assert journey.rstar("logs", "r1", "--stage", "train-policy").strip()

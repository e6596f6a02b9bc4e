"""The charts with Helm 3 and with Helm 4, which applies objects on the server: who owns a field decides there."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.modules import pytorchjob_crd

from tests.support.cluster.established import await_established
from tests.support.cluster.releases import HELMS, install, installed, new_name, new_namespace
from tests.support.cluster.rendering import CHARTS, COMBINATIONS, chart_of, run

RSTAR, TENANT = CHARTS / "rstar", CHARTS / "rstar-tenant"
CRDS = ("evolutionrounds.rstar.dev", "evolutions.rstar.dev")
# A password that a chart generates, and the name of the tenant's Job, which contains its digest.
GENERATED = re.compile(
    r'^( *(?:password|AWS_SECRET_ACCESS_KEY): |  name: rstar-tenant-lab-b-)(?:"\w{32,}"|[0-9a-f]{8})$', re.M
)

every_helm = pytest.mark.parametrize("helm", HELMS)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane of its own: the tests change and remove cluster-wide objects."""
    with Testbed.start(tmp_path_factory.mktemp("helm"), training_operator=False, minio=False) as bed:
        bed.kubectl("apply", "--server-side", "-f", str(pytorchjob_crd()))
        yield bed


@pytest.fixture
def namespace(bed: Testbed) -> str:
    return new_namespace(bed)


@pytest.mark.parametrize("values", COMBINATIONS, ids=lambda path: f"{chart_of(path).name}-{path.stem}")
def test_both_render_the_same(values: Path) -> None:
    def rendered(program: str) -> str:
        chart = chart_of(values)
        text = run(program, "template", "r", chart, "-n", "lab", "-f", values, "--kube-version", "v1.35.4").stdout
        return GENERATED.sub(r"\1generated", text)

    three, four = rendered("helm"), rendered("helm4")
    assert list(yaml.safe_load_all(four)) == list(yaml.safe_load_all(three))
    # Helm 4 puts an empty line between documents.
    assert [line for line in four.splitlines() if line.strip()] == [line for line in three.splitlines() if line.strip()]
    run("helm4", "lint", "--strict", "--quiet", chart_of(values), "-f", values)


def replicas(bed: Testbed, namespace: str, deployment: str) -> int:
    return int(bed.kubectl("get", "deployment", deployment, "-n", namespace, "-o", "jsonpath={.spec.replicas}"))


def changes(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> set[tuple[str, str]]:
    assert before.keys() == after.keys()
    return {key for key in before if before[key] != after[key]}


@every_helm
@pytest.mark.parametrize("reuse", ["--reuse-values", "--reset-then-reuse-values", "--reset-values"])
def test_a_release_is_upgraded_rolled_back_and_uninstalled(bed: Testbed, namespace: str, helm: str, reuse: str) -> None:
    release = new_name("r")
    install(bed, RSTAR, release, namespace, "dev", program=helm)
    before = installed(bed, release, namespace)
    own = () if reuse != "--reset-values" else (f"--values={RSTAR / 'ci/dev-values.yaml'}",)
    change = "--set=executor.extraEnv[0].name=A,executor.extraEnv[0].value=b"
    bed.helm("upgrade", release, str(RSTAR), "-n", namespace, reuse, change, *own, program=helm)
    assert changes(before, installed(bed, release, namespace)) == {("Deployment", "rstar-executor")}
    bed.helm("rollback", release, "1", "-n", namespace, program=helm)
    back = installed(bed, release, namespace)
    for objects in (before, back):
        objects["Deployment", "rstar-executor"]["metadata"].pop("generation")
    assert back == before
    bed.helm("uninstall", release, "-n", namespace, program=helm)
    left = bed.kubectl("get", "deployments,services,hpa,secrets,configmaps", "-n", namespace, "-o", "name").split()
    assert left == ["configmap/kube-root-ca.crt"]


@every_helm
def test_an_upgrade_keeps_the_number_of_pods_that_the_autoscaler_has_chosen(
    bed: Testbed, namespace: str, helm: str
) -> None:
    release = new_name("r")
    install(bed, RSTAR, release, namespace, "dev", program=helm)
    bed.kubectl("scale", "deployment/rstar-executor", "--replicas=2", "-n", namespace)
    install(bed, RSTAR, release, namespace, "dev", "--set=executor.drainSeconds=70", program=helm)
    assert replicas(bed, namespace, "rstar-executor") == 2
    bed.kubectl("rollout", "restart", "deployment/rstar-executor", "-n", namespace)
    install(bed, RSTAR, release, namespace, "dev", "--set=executor.drainSeconds=71", program=helm)
    assert replicas(bed, namespace, "rstar-executor") == 2
    bed.helm("uninstall", release, "-n", namespace, program=helm)


def test_helm_4_refuses_to_reset_a_number_of_pods_that_a_user_has_changed(bed: Testbed, namespace: str) -> None:
    release = new_name("r")
    install(bed, RSTAR, release, namespace, "fixed", "--take-ownership", program="helm4")
    bed.kubectl("scale", "deployment/rstar-executor", "--replicas=2", "-n", namespace)
    with pytest.raises(CommandError, match=r'conflict with "kubectl" .*\.spec\.replicas'):
        bed.helm("upgrade", release, str(RSTAR), "-n", namespace, "--reuse-values", program="helm4")
    bed.helm("upgrade", release, str(RSTAR), "-n", namespace, "--reuse-values", "--force-conflicts", program="helm4")
    assert replicas(bed, namespace, "rstar-executor") == 3
    bed.helm("uninstall", release, "-n", namespace, program="helm4")


def test_helm_4_upgrades_and_rolls_back_a_release_of_helm_3(bed: Testbed, namespace: str) -> None:
    release = new_name("r")
    install(bed, RSTAR, release, namespace, "dev")
    before = installed(bed, release, namespace)
    install(bed, RSTAR, release, namespace, "dev", "--set=executor.drainSeconds=70", program="helm4")
    after = installed(bed, release, namespace)
    assert changes(before, after) == {("Deployment", "rstar-executor")}
    bed.helm("rollback", release, "1", "-n", namespace, program="helm4")
    install(bed, RSTAR, release, namespace, "dev", "--set=executor.drainSeconds=70")
    bed.helm("uninstall", release, "-n", namespace, program="helm4")


def test_helm_4_takes_over_the_crds_that_an_older_release_of_helm_3_has_left(bed: Testbed, namespace: str) -> None:
    install(bed, RSTAR, "old", namespace, "dev")
    for crd in CRDS:
        await_established(bed, crd)
        patch = [{"op": "add", "path": "/metadata/labels/helm.sh~1chart", "value": "rstar-0.0.9"}]
        bed.kubectl("patch", "crd", crd, "--type=json", f"--patch={json.dumps(patch)}", "--field-manager=helm")
    bed.helm("uninstall", "old", "-n", namespace)
    install(bed, RSTAR, "new", namespace, "dev", program="helm4")
    for crd in CRDS:
        owner = bed.kubectl("get", "crd", crd, "-o", r"jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}")
        assert owner == "new"
    bed.helm("uninstall", "new", "-n", namespace, program="helm4")


@every_helm
def test_a_tenant_is_installed_upgraded_and_uninstalled(bed: Testbed, namespace: str, helm: str) -> None:
    name = f"lab-{uuid.uuid4().hex[:6]}"
    options = (f"--set=namespace={name},storage.endpoint=http://minio:9000,minioUser.enabled=true",)
    install(bed, TENANT, "tenant", namespace, "default", *options, program=helm)
    before = installed(bed, "tenant", namespace)
    install(bed, TENANT, "tenant", namespace, "default", *options, program=helm)
    # The Job makes the user anew at every upgrade.
    assert {kind for kind, _ in changes(before, installed(bed, "tenant", namespace))} <= {"Job"}
    bed.helm("uninstall", "tenant", "-n", namespace, program=helm)
    kept = yaml.safe_load(bed.kubectl("get", "namespace", name, "-o", "yaml"))
    assert kept["status"]["phase"] == "Active"

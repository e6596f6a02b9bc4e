"""A lab on a real node: the steps of a cluster admin, and of a tenant's user, up to the files that rounds read.

The admin installs the operator and sets a tenant up with the charts. The user installs executors and uploads a base model
and games to the tenant's folder of MinIO.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from rstar.cluster.api import Cluster
from rstar.cluster.inputs import Input, namespace_store, upload
from rstar.store.s3_store import S3Store
from tests.support.certificates import Authority, write
from tests.support.cluster.releases import WITHOUT_PROMETHEUS, new_name
from tests.support.paths import ROOT

IMAGES = ("operator", "executor", "jobs", "policy", "ppm", "search")
BUCKET = "labs"
SMALL = {
    **{name: {"cpu": "200m", "memory": "2Gi"} for name in ("policy", "ppm", "rollout", "evaluate", "select")},
    **{name: {"cpu": "900m", "memory": "3Gi"} for name in ("trainPolicy", "trainPpm")},
    "search": {"cpu": "200m", "memory": "1Gi"},
}
"""Requests by which everything that runs at once fits on a node with two cores."""

EXECUTORS = (
    "--set=executor.slots=1,executor.autoscaling.maxReplicas=1,executor.maxMemoryMib=512",
    "--set=executor.resources.requests.cpu=200m,executor.resources.requests.memory=512Mi",
    "--set=executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
)


@dataclass(frozen=True)
class Tenant:
    """A tenant's namespace, and the kubeconfig and client of one of the tenant's users.

    ``certificate``: with TLS, the variables that name the files of a certificate of the tenant's CA.
    """

    bed: Testbed
    namespace: str
    user: Path
    api: Cluster
    certificate: Mapping[str, str]

    def kubectl(self, *words: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl as the tenant's user."""
        return self.bed.kubectl("-n", self.namespace, *words, input=input, kubeconfig=self.user, check=check)

    def helm(self, command: str, *words: str) -> str:
        """Run helm as the tenant's user, on the release ``rstar`` of the tenant's namespace."""
        chart = str(ROOT / "charts/rstar")
        return self.bed.helm(command, "rstar", chart, "-n", self.namespace, *words, kubeconfig=self.user)

    def store(self) -> S3Store:
        """Return the tenant's store, with the tenant's keys."""
        return namespace_store(self.api, self.namespace, "rstar-storage", {})


@dataclass
class Lab:
    """An installed operator in the namespace ``admin``, and tenants. ``images`` are full names with digests.

    ``certificates``: a folder for the tenants' certificates; with it, all services have mutual TLS.
    """

    bed: Testbed
    admin: str
    images: Mapping[str, str]
    certificates: Path | None = None
    namespaces: list[str] = field(default_factory=list)

    def install_operator(self) -> None:
        """Install what an admin installs once per cluster, with the documented values: the operator, the CRD, the roles."""
        values = ROOT / "charts/rstar/ci/operator-values.yaml"
        # An uninstalled chart leaves its CRD, so that an earlier test's may exist.
        options = [f"--values={values}", WITHOUT_PROMETHEUS, "--take-ownership", *self._chart_options()]
        self.bed.helm("install", "rstar", str(ROOT / "charts/rstar"), "-n", self.admin, *options)
        self.bed.kubectl("rollout", "status", "deployment/rstar-operator", "-n", self.admin, "--timeout=900s")

    def add_tenant(self) -> Tenant:
        """Install what an admin installs once per tenant: a namespace with quota and policies, and a MinIO user."""
        bed, admin, name = self.bed, self.admin, new_name("lab")
        assert bed.minio is not None
        self.namespaces.append(name)
        values = f"namespace={name},access.groups={{{name}}},minioUser.enabled=true"
        where = f"storage.endpoint={bed.minio.endpoint},storage.bucket={BUCKET}"
        image = f"--set=minioUser.image={self.images['jobs']}"
        bed.helm("install", name, str(ROOT / "charts/rstar-tenant"), "-n", admin, f"--set={values},{where}", image)
        bed.kubectl("wait", "--for=condition=Complete", "job", "--all", "-n", admin, "--timeout=900s")
        user = bed.user_kubeconfig(f"user-of-{name}", (name,))
        certificate = write(self.certificates / name, Authority(name).issue()) if self.certificates else {}
        tenant = Tenant(bed, name, user, Cluster.connect(user, user_agent="rstar-tests"), certificate)
        if certificate:
            files = [f"--from-file={Path(file).name}={file}" for file in certificate.values()]
            tenant.kubectl("create", "secret", "generic", "rstar-tls", *files)
        return tenant

    def install_executors(self, tenant: Tenant) -> None:
        """Install executors as the tenant's user, with the documented values, and wait for the first."""
        values = f"--values={ROOT / 'charts/rstar/ci/tenant-values.yaml'}"
        tenant.helm("install", values, *self._chart_options(), *EXECUTORS)
        tenant.kubectl("rollout", "status", "deployment/rstar-executor", "--timeout=900s")

    def _chart_options(self) -> list[str]:
        tls = ["--set=tls.enabled=true"] if self.certificates else []
        return [*chart_options(self.images), *tls]


@contextlib.contextmanager
def lab(bed: Testbed, images: Mapping[str, str], certificates: Path | None = None) -> Iterator[Lab]:
    """Give a lab with an operator; remove it and its tenants at the end. ``certificates`` as in :class:`Lab`."""
    assert bed.minio is not None
    made = Lab(bed, new_name("rstar"), images, certificates)
    bed.kubectl("create", "namespace", made.admin)
    keys = [f"--from-literal=user={bed.minio.access_key}", f"--from-literal=password={bed.minio.secret_key}"]
    bed.kubectl("create", "secret", "generic", "minio-admin", "-n", made.admin, *keys)
    try:
        made.install_operator()
        yield made
    finally:
        for release in (*made.namespaces, "rstar"):
            bed.helm("uninstall", release, "-n", made.admin, "--ignore-not-found")
        bed.kubectl("delete", "namespace", made.admin, *made.namespaces, "--wait=false", "--ignore-not-found")


def fill_store(tenant: Tenant, folder: Path, keys: Sequence[str]) -> S3Store:
    """Upload files and folders from a folder store to the tenant's store, with the tenant's keys; return the latter."""
    store = tenant.store()
    upload([Input(folder / key, key) for key in keys], store, lambda _: None)
    return store

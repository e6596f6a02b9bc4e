"""Two tenants on one cluster, set up by charts/rstar-tenant: each runs rounds, and neither can access the other's objects."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from minio import Minio
from minio.error import S3Error
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, Run

from rstar.cluster.api import PODS
from rstar.rounds.observed import Stage
from tests.support.cluster.chart_operator import CHART
from tests.support.cluster.releases import bind, secret
from tests.support.cluster.round_namespace import PodScript, RoundNamespace
from tests.support.cluster.rounds import result_of, round_body

FOREVER = Run()
TENANT = CHART.parent / "rstar-tenant"
OF_A_TENANT = CHART / "ci" / "tenant-values.yaml"


@dataclass
class Tenant:
    """A tenant: its namespace, the kubeconfig of one of its users, and its keys to the object store."""

    rounds: RoundNamespace
    user: Path
    keys: dict[str, str]

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """Run kubectl as the tenant's user, and return its output and errors."""
        return self.rounds.bed.kubectl(*words, input=input, check=False, kubeconfig=self.user)

    @property
    def namespace(self) -> str:
        return self.rounds.namespace

    @property
    def store(self) -> Minio:
        """Return a client of the object store with the tenant's keys."""
        host = self.keys["RSTAR_S3_ENDPOINT"].removeprefix("http://")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        access, hidden = (self.keys[name] for name in names)
        return Minio(host, access_key=access, secret_key=hidden, secure=False, region="us-east-1")


@pytest.fixture(scope="module")
def tenants(
    testbed: Testbed, operator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tenant, Tenant]]:
    """Set two tenants up as a cluster admin does."""
    assert testbed.minio is not None
    admin, ending = f"admin-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:6]
    names = (f"lab-a-{ending}", f"lab-b-{ending}")
    testbed.kubectl("create", "namespace", admin)
    keys = (f"--from-literal=user={testbed.minio.access_key}", f"--from-literal=password={testbed.minio.secret_key}")
    testbed.kubectl("create", "secret", "generic", "minio-admin", "-n", admin, *keys)
    with contextlib.ExitStack() as stack:
        for name in names:
            options = f"namespace={name},access.groups={{{name}}},storage.endpoint={testbed.minio.endpoint}"
            more = f"storage.bucket=labs-{ending},minioUser.enabled=true"
            testbed.helm("install", name, str(TENANT), "-n", admin, f"--set={options}", f"--set={more}")
            create_minio_user(testbed, admin, name, tmp_path_factory.mktemp(name) / "policy.json")
        yield tuple(stack.enter_context(install_executors(testbed, name)) for name in names)  # type: ignore[misc]
    testbed.kubectl("delete", "namespace", admin, *names, "--wait=false")


def create_minio_user(bed: Testbed, admin: str, name: str, policy: Path) -> None:
    """Run the program of the tenant's Job on this machine, as no pod runs here; ``policy`` is the file for its ConfigMap."""
    found = bed.kubectl("get", "jobs", "-n", admin, "-l", f"app.kubernetes.io/instance={name}", "-o", "json")
    [container] = json.loads(found)["items"][0]["spec"]["template"]["spec"]["containers"]
    policy.write_text(
        bed.kubectl("get", "configmap", f"rstar-tenant-{name}", "-n", admin, "-o", r"jsonpath={.data.policy\.json}")
    )
    *arguments, _ = container["args"]
    keys = secret(bed, "minio-admin", admin)
    environment = {
        "RSTAR_S3_ENDPOINT": container["env"][0]["value"],
        "MINIO_ADMIN_USER": keys["user"],
        "MINIO_ADMIN_PASSWORD": keys["password"],
        **secret(bed, f"rstar-tenant-{name}", admin),
    }
    subprocess.run([sys.executable, "-c", *arguments, str(policy)], env=os.environ | environment, check=True)


@contextlib.contextmanager
def install_executors(bed: Testbed, name: str) -> Iterator[Tenant]:
    """Install executors as one of the tenant's users, with a kubelet for the tenant's pods."""
    user = bed.user_kubeconfig(f"user-of-{name}", (name,))
    script = PodScript()
    with Kubelet(bed.kubeconfig, script, namespace=name) as kubelet:
        bed.helm("install", "rstar", str(CHART), "-n", name, "-f", str(OF_A_TENANT), kubeconfig=user)
        yield Tenant(RoundNamespace(bed, name, script, kubelet), user, secret(bed, "rstar-storage", name))


def submit(tenant: Tenant, name: str) -> None:
    made = tenant.kubectl("apply", "-n", tenant.namespace, "-f", "-", input=yaml.safe_dump(round_body(name)))
    assert "created" in made


def test_each_tenant_runs_rounds_with_its_own_keys_where_pods_must_be_restricted(
    tenants: tuple[Tenant, Tenant],
) -> None:
    for tenant in tenants:
        submit(tenant, "r1")
    for tenant in tenants:
        tenant.rounds.wait_for_success("r1")
        for pod in tenant.rounds.list_objects(PODS, "r1", component="stage"):
            assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "rstar-storage"}}]
        assert "r1" in tenant.kubectl("get", "er", "-n", tenant.namespace)
        assert tenant.keys["RSTAR_STORE"].endswith(f"/{tenant.namespace}")
    first, second = (tenant.keys for tenant in tenants)
    assert first["AWS_SECRET_ACCESS_KEY"] != second["AWS_SECRET_ACCESS_KEY"]


def test_a_tenant_neither_sees_nor_changes_what_is_in_anothers_namespace(tenants: tuple[Tenant, Tenant]) -> None:
    attacker, other = tenants
    other.rounds.script.set(FOREVER, round="theirs", stage=Stage.ROLLOUT)
    submit(other, "theirs")
    other.rounds.wait_for_running("theirs", "rollout")
    pod = other.rounds.wait_for_pod("theirs", "rollout")["metadata"]["name"]
    there = ("-n", other.namespace)
    theirs = yaml.safe_dump(round_body("smuggled"))
    patch = '--patch={"spec":{"cancel":true}}'
    tries = [
        *[("get", kind) for kind in ("er", "secrets", "pods", "pytorchjobs", "configmaps", "deployments", "events")],
        ("get", "er", "theirs"),
        ("get", "secret", "rstar-storage"),
        ("logs", pod),
        ("patch", "er", "theirs", "--type=merge", patch),
        ("patch", "er", "theirs", "--subresource=status", "--type=merge", '--patch={"status":{"phase":"Succeeded"}}'),
        ("delete", "er", "theirs"),
        ("delete", "pod", pod),
        ("delete", "pytorchjob", "theirs-rollout-1"),
        ("create", "rolebinding", "mine", "--clusterrole=admin", f"--group={attacker.namespace}"),
    ]
    for words in tries:
        assert "orbidden" in attacker.kubectl(*words, *there), words
    assert "(Forbidden)" in attacker.kubectl("create", *there, "-f", "-", input=theirs)
    for kind in ("er", "secrets", "pods", "namespaces"):
        assert "(Forbidden)" in attacker.kubectl("get", kind, "--all-namespaces")
    # What is its own it may.
    assert "rstar-storage" in attacker.kubectl("get", "secrets", "-n", attacker.namespace)
    other.rounds.kubelet.end(other.namespace, pod, message=result_of(other.rounds.wait_for_pod("theirs", "rollout")))
    assert {record.number for record in other.rounds.wait_for_success("theirs").attempts} == {1}


def test_a_tenants_keys_open_its_folder_of_the_bucket_alone(tenants: tuple[Tenant, Tenant]) -> None:
    attacker, other = tenants
    bucket = attacker.keys["RSTAR_STORE"].split("/")[2]
    assert bucket == other.keys["RSTAR_STORE"].split("/")[2]
    for tenant in tenants:
        put(tenant.store, bucket, f"{tenant.namespace}/rounds/r1/x")
        found = tenant.store.list_objects(bucket, prefix=f"{tenant.namespace}/", recursive=True)
        assert [each.object_name for each in found] == [f"{tenant.namespace}/rounds/r1/x"]
    theirs = f"{other.namespace}/rounds/r1/x"
    store = attacker.store
    tries: list[Any] = [
        lambda: store.get_object(bucket, theirs),
        lambda: store.stat_object(bucket, theirs),
        lambda: put(store, bucket, theirs),
        lambda: put(store, bucket, f"{other.namespace}/new"),
        lambda: put(store, bucket, f"{attacker.namespace}-b/new"),
        lambda: store.remove_object(bucket, theirs),
        lambda: list(store.list_objects(bucket, prefix=f"{other.namespace}/")),
        lambda: list(store.list_objects(bucket)),
        lambda: store.remove_bucket(bucket),
        lambda: store.make_bucket("mine"),
        lambda: store.set_bucket_policy(bucket, json.dumps({"Version": "2012-10-17", "Statement": []})),
    ]
    for attempt in tries:
        with pytest.raises(S3Error) as refused:
            attempt()
        assert refused.value.code == "AccessDenied"
    assert other.store.get_object(bucket, theirs).read() == b"mine"


def put(store: Minio, bucket: str, key: str) -> None:
    store.put_object(bucket, key, io.BytesIO(b"mine"), 4)


def test_the_clusters_own_roles_cover_rounds(tenants: tuple[Tenant, Tenant]) -> None:
    tenant, _ = tenants
    bed, namespace = tenant.rounds.bed, tenant.namespace
    body = round_body("of-a-role", suspend=True)
    patch = '--patch={"spec":{"cancel":true}}'
    status = '--patch={"status":{"phase":"Succeeded"}}'
    # kubectl's words, and the least of the roles that may say them; "": none.
    tries: list[tuple[tuple[str, ...], str]] = [
        (("create", "-f", "-"), "edit"),
        (("get", "er", "of-a-role"), "view"),
        (("patch", "er", "of-a-role", "--type=merge", patch), "edit"),
        (("patch", "er", "of-a-role", "--subresource=status", "--type=merge", status), ""),
        (("create", "role", "r", "--verb=patch", "--resource=pytorchjobs.kubeflow.org"), "admin"),
        (("delete", "er", "of-a-role"), "edit"),
    ]
    roles = ("view", "edit", "admin")
    for role in roles:
        user = bind(bed, namespace, f"{role}er-of-{namespace}", role)
        for words, least in tries:
            given = yaml.safe_dump(body) if "-f" in words else None
            may = bool(least) and roles.index(least) <= roles.index(role)
            # A user who may not create the round gets an existing one.
            if not may and "-f" in words:
                tenant.rounds.submit("of-a-role", suspend=True)
            answer = bed.kubectl("-n", namespace, *words, input=given, check=False, kubeconfig=user)
            assert ("orbidden" not in answer) == may, (role, words, answer)
        tenant.rounds.kubectl("delete", "er", "of-a-role", "--ignore-not-found")
